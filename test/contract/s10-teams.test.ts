import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { publicPrefix } from '../../src/access/api-key.ts'
import { type Lab, type Management, type ManagementClient, startManagement } from '../support/management-client.ts'
import { keysOf, mintFor } from '../support/workspace-keys.ts'

describe('teams', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
  })
  after(() => management[Symbol.asyncDispose]())

  const mint = (caller: ManagementClient, body: object, path?: string) => mintFor({ management, caller }, body, path)

  test('every workspace has a default team, which stays', async () => {
    lab = await management.lab()
    const { teams } = await lab.ok<{ teams: { id: string; name: string; default: boolean }[] }>('GET /v1/teams')
    assert.deepEqual(
      teams.map((team) => [team.name, team.default]),
      [['Default', true]],
    )
    await lab.refused(400, `DELETE /v1/teams/${teams[0]?.id}`)
  })

  test('teams have names that are unique in the workspace, and are found by them', async () => {
    lab = await management.lab()
    const team = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'Research' })
    await lab.invalid('name', 'POST /v1/teams', { name: 'Research' })
    await (await management.lab()).ok('POST /v1/teams', { name: 'Research' })
    assert.deepEqual((await lab.ok<{ teams: object[] }>('GET /v1/teams?name=Research')).teams, [team])
    assert.deepEqual((await lab.ok<{ teams: object[] }>('GET /v1/teams?name=research')).teams, [])
    assert.deepEqual(await lab.ok(`GET /v1/teams/${team.id}`), team)
  })

  test('a key of a team sees its team: its keys, its secrets and itself', async () => {
    lab = await management.lab()
    const one = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'one' })
    const two = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'two' })
    const ofOne = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL', name: 'one' }, `/v1/teams/${one.id}/api_keys`)
    const ofTwo = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL', name: 'two' }, `/v1/teams/${two.id}/api_keys`)
    await ofTwo.ok('POST /v1/secrets', { name: 'of-two', value: 'v' })

    assert.deepEqual(
      (await keysOf(ofOne)).map(({ name, team_name }) => [name, team_name]),
      [['one', 'one']],
    )
    assert.deepEqual(
      (await ofOne.ok<{ teams: { name: string }[] }>('GET /v1/teams')).teams.map(({ name }) => name),
      ['one'],
    )
    assert.deepEqual(await ofOne.ok('GET /v1/secrets'), { secrets: [] })
    for (const request of [
      `GET /v1/teams/${two.id}`,
      `GET /v1/teams/${two.id}/secrets`,
      `DELETE /v1/api_keys/${ofTwo.prefix}`,
      `DELETE /v1/api_keys/${publicPrefix(lab.key)}`,
      'DELETE /v1/secrets/of-two',
      `DELETE /v1/teams/${one.id}`,
      'GET /v1/users',
      'GET /v1/audit_logs',
    ]) {
      await ofOne.refused(403, request)
    }
    await ofOne.refused(403, `PATCH /v1/api_keys/${ofTwo.prefix}`, { name: 'mine' })
    await ofOne.refused(403, `POST /v1/teams/${two.id}/api_keys`, { type: 'WORKSPACE_INVOKE' })
    await ofOne.refused(403, `POST /v1/teams/${two.id}/secrets`, { name: 'a', value: 'v' })
    await ofOne.invalid('name', 'POST /v1/secrets', { name: 'of-two', value: 'stolen' })
    assert.equal((await keysOf(lab)).length, 3)
    const { secrets } = await lab.ok<{ secrets: { name: string; team_name: string }[] }>('GET /v1/secrets')
    assert.deepEqual(
      secrets.map(({ name, team_name }) => [name, team_name]),
      [['of-two', 'two']],
    )
  })

  test("a key of a team cannot send another team's secret anywhere", async () => {
    lab = await management.lab()
    const team = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'one' })
    const member = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL' }, `/v1/teams/${team.id}/api_keys`)
    const { id: secret_id } = await lab.ok<{ id: string }>('POST /v1/secrets', { name: 'ours', value: 'v' })
    const environments = [{ name: 'production', base_url: 'http://127.0.0.1:1/v1', secret_id }]
    const target = { provider: 'OPENAI_COMPATIBLE', base_url: 'http://127.0.0.1:1/v1', target_model: 'm', secret_id }
    const endpoint = { slug: `${lab.orgPrefix}/a`, targets: [target] }
    await member.invalid('environments.0.secret_id', 'POST /v1/models', { name: 'm', environments })
    await member.invalid('targets.0.secret_id', 'POST /v1/gateway/endpoints', endpoint)
    const { id } = await lab.ok<{ id: string }>('POST /v1/gateway/endpoints', endpoint)
    await member.invalid('targets.0.secret_id', `PATCH /v1/gateway/endpoints/${id}`, { targets: [target] })
  })

  test("a team's key mints keys of its team only, also where it names none", async () => {
    lab = await management.lab()
    const team = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'one' })
    const full = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL' }, `/v1/teams/${team.id}/api_keys`)
    await mint(full, { type: 'WORKSPACE_MANAGE_ALL', name: 'child' })
    const child = (await keysOf(lab)).find(({ name }) => name === 'child')
    assert.equal(child?.team_name, 'one')
    await full.refused(403, 'POST /v1/api_keys', { type: 'PERSONAL' })
    await lab.invalid('type', `POST /v1/teams/${team.id}/api_keys`, { type: 'PERSONAL' })
  })

  test('deleting a team revokes its keys and leaves its secrets to the default team', async () => {
    lab = await management.lab()
    const team = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'one' })
    const member = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL' }, `/v1/teams/${team.id}/api_keys`)
    const secret = await lab.ok<{ id: string }>(`POST /v1/teams/${team.id}/secrets`, { name: 'a', value: 'v' })
    const { deleted_at, ...tombstone } = await lab.ok<{ deleted_at: string }>(`DELETE /v1/teams/${team.id}`)
    assert.deepEqual(tombstone, { id: team.id, name: 'one' })
    assert.ok(Date.parse(deleted_at))
    await member.refused(401, 'GET /v1/models')
    await lab.refused(404, `GET /v1/teams/${team.id}`)
    const { secrets } = await lab.ok<{ secrets: { id: string; team_name: string }[] }>('GET /v1/secrets')
    assert.deepEqual([secrets[0]?.id, secrets[0]?.team_name], [secret.id, 'Default'])
  })
})
