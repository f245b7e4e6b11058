import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { keyHash, publicPrefix } from '../../src/access/api-key.ts'
import { workspaceKeyTypes } from '../../src/access/permissions.ts'
import {
  type Lab,
  type Management,
  type ManagementClient,
  type Page,
  startManagement,
} from '../support/management-client.ts'

interface Key {
  prefix: string
  name: string | null
  type: string
  model_ids: string[] | null
  environments: string[] | null
  team_name: string | null
  owner: { user_id: string; email: string | null; name: string | null } | null
  created_at: string
  last_used_at: string | null
}

interface Person {
  id: string
  email: string | null
  role: string
}

describe('workspace keys', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
  })
  after(() => management[Symbol.asyncDispose]())

  const keysOf = async (caller: ManagementClient) => (await caller.ok<{ keys: Key[] }>('GET /v1/api_keys')).keys
  const mint = async (caller: ManagementClient, body: object, path = '/v1/api_keys') => {
    const { api_key } = await caller.ok<{ api_key: string }>(`POST ${path}`, body)
    return Object.assign(management.caller(api_key), { key: api_key, prefix: publicPrefix(api_key) })
  }
  const invite = (caller: ManagementClient, email: string, role: string) =>
    caller.ok<Person>('POST /v1/users', { email, role })
  const modelOf = async (owner: Lab) =>
    (
      await owner.ok<{ id: string }>('POST /v1/models', {
        name: 'm',
        environments: [{ name: 'production', base_url: 'http://127.0.0.1:1/v1' }],
      })
    ).id

  test('a full-access key mints a key of every type, which works at once', async () => {
    lab = await management.lab()
    for (const type of workspaceKeyTypes) {
      const minted = await mint(lab, { type, name: 'a-key-1' })
      const { status } = await minted.call('GET /v1/api_keys')
      assert.equal(status, ['WORKSPACE_INVOKE', 'WORKSPACE_EXPORT_METRICS'].includes(type) ? 403 : 200, type)
    }
    assert.deepEqual(
      (await keysOf(lab)).map(({ type }) => type),
      ['WORKSPACE_MANAGE_ALL', ...workspaceKeyTypes],
    )
  })

  test('a key is shown once: lists show its prefix and what bounds it, and the database holds its hash alone', async () => {
    lab = await management.lab()
    const model = await modelOf(lab)
    const body = { type: 'WORKSPACE_INVOKE', name: 'for-ci', model_ids: [model], environments: ['production'] }
    const { key, prefix } = await mint(lab, body)
    assert.match(key, /^[\w-]+\.[\w-]{43,}$/)
    const listed = (await keysOf(lab)).find((candidate) => candidate.prefix === prefix)
    assert.deepEqual(listed, {
      prefix,
      ...body,
      team_name: null,
      owner: null,
      created_at: listed?.created_at,
      last_used_at: null,
    })
    const row = await management.database.queries
      .selectFrom('workspace_keys')
      .selectAll()
      .where('prefix', '=', prefix)
      .executeTakeFirstOrThrow()
    assert.equal(row.hash, keyHash(key))
    assert.doesNotMatch(JSON.stringify(row), new RegExp(key.slice(prefix.length + 1)))
  })

  test('names are lowercase letters, digits and hyphens', async () => {
    lab = await management.lab()
    const { prefix } = await mint(lab, { type: 'WORKSPACE_INVOKE' })
    for (const name of ['Upper', 'a b', 'a_b', 'é', '', 'a.b']) {
      await lab.invalid('name', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', name })
      await lab.invalid('name', `PATCH /v1/api_keys/${prefix}`, { name })
    }
    const renamed = await lab.ok<Key>(`PATCH /v1/api_keys/${prefix}`, { name: 'web-2' })
    assert.equal(renamed.name, 'web-2')
    assert.equal((await keysOf(lab)).at(-1)?.name, 'web-2')
  })

  test('a revoked key is refused at once, leaves the list, and is a 404 ever after', async () => {
    lab = await management.lab()
    const minted = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL' })
    assert.deepEqual(await lab.ok(`DELETE /v1/api_keys/${minted.prefix}`), { prefix: minted.prefix })
    await minted.refused(401, 'GET /v1/models')
    assert.equal((await keysOf(lab)).length, 1)
    await lab.refused(404, `DELETE /v1/api_keys/${minted.prefix}`)
    await lab.refused(404, `PATCH /v1/api_keys/${minted.prefix}`, { name: 'back' })
    assert.deepEqual(management.changes.at(-1), { kind: 'key', hash: keyHash(minted.key) })
  })

  test('what a type of key cannot be bound to is a 400 that names it', async () => {
    lab = await management.lab()
    const model = await modelOf(lab)
    const person = await invite(lab, 'a@example.com', 'member')
    const bounds: [string, unknown][] = [
      ['model_ids', [model]],
      ['environments', ['production']],
      ['user_id', person.id],
    ]
    const taken: Record<string, string[]> = {
      PERSONAL: ['user_id'],
      WORKSPACE_MANAGE_ALL: ['environments'],
      WORKSPACE_INVOKE: ['model_ids', 'environments'],
      WORKSPACE_EXPORT_METRICS: ['model_ids'],
      WORKSPACE_MANAGE_API_KEYS: [],
    }
    for (const [type, fields] of Object.entries(taken)) {
      for (const [field, value] of bounds) {
        if (fields.includes(field)) await lab.ok('POST /v1/api_keys', { type, [field]: value })
        else await lab.invalid(field, 'POST /v1/api_keys', { type, [field]: value })
      }
    }
    await lab.invalid('model_ids', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [] })
    await lab.invalid('model_ids.1', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [model, 'nope'] })
    const foreign = await modelOf(await management.lab())
    await lab.invalid('model_ids.0', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [foreign] })
  })

  describe('of teams', () => {
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

  describe('of people', () => {
    test('an address is invited once, however it is written; the workspace has an account of its own', async () => {
      lab = await management.lab()
      const person = await invite(lab, 'Ada@Example.com', 'admin')
      assert.equal(person.email, 'ada@example.com')
      await lab.invalid('email', 'POST /v1/users', { email: 'ADA@example.com' })
      await lab.invalid('email', 'POST /v1/users', { email: 'not an address' })
      const { items } = await lab.ok<Page<Person>>('GET /v1/users')
      assert.deepEqual(
        items.map(({ email, role }) => [email, role]),
        [
          [null, 'owner'],
          ['ada@example.com', 'admin'],
        ],
      )
      await lab.refused(400, `DELETE /v1/users/${items[0]?.id}`)
      await lab.refused(400, `PATCH /v1/users/${items[0]?.id}`, { role: 'member' })
    })

    test('a personal key is of the person named, else of the person who asks, else of the account', async () => {
      lab = await management.lab()
      const ada = await invite(lab, 'ada@example.com', 'member')
      const hers = await mint(lab, { type: 'PERSONAL', user_id: ada.id, name: 'first' })
      const second = await mint(hers, { type: 'PERSONAL', name: 'second' })
      const account = await mint(lab, { type: 'PERSONAL', name: 'third' })
      const owners = (await keysOf(lab)).map(({ owner }) => owner?.email)
      assert.deepEqual(owners, [undefined, 'ada@example.com', 'ada@example.com', null])
      const me = {
        user_id: ada.id,
        email: 'ada@example.com',
        name: null,
        workspace_name: `lab ${lab.orgPrefix.slice(4)}`,
      }
      assert.deepEqual(await second.ok('GET /v1/users/me'), me)
      assert.equal((await account.ok<{ email: string | null }>('GET /v1/users/me')).email, null)
      await lab.refused(404, 'POST /v1/api_keys', { type: 'PERSONAL', user_id: 'nobody' })
    })

    test('a key that is no person answers for itself', async () => {
      lab = await management.lab()
      const ci = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL', name: 'ci' })
      const { user_id, name, email } = await ci.ok<{ user_id: string; name: string; email: null }>('GET /v1/users/me')
      assert.deepEqual({ user_id, name, email }, { user_id: ci.prefix, name: 'ci', email: null })
    })

    test('a member sees and manages their own keys, and no others', async () => {
      lab = await management.lab()
      const ada = await invite(lab, 'ada@example.com', 'member')
      const bob = await invite(lab, 'bob@example.com', 'member')
      const ofAda = await mint(lab, { type: 'PERSONAL', user_id: ada.id, name: 'ada' })
      const ofBob = await mint(lab, { type: 'PERSONAL', user_id: bob.id, name: 'bob' })
      assert.deepEqual(
        (await keysOf(ofAda)).map(({ name }) => name),
        ['ada'],
      )
      await ofAda.ok(`PATCH /v1/api_keys/${ofAda.prefix}`, { name: 'laptop' })
      for (const prefix of [ofBob.prefix, publicPrefix(lab.key)])
        await ofAda.refused(403, `DELETE /v1/api_keys/${prefix}`)
      await ofAda.refused(403, 'POST /v1/api_keys', { type: 'PERSONAL', user_id: bob.id })
      await ofAda.refused(403, 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE' })
      await ofAda.refused(403, 'POST /v1/users', { email: 'eve@example.com' })
    })

    test('a change of role holds at once; removing a person revokes their keys', async () => {
      lab = await management.lab()
      const ada = await invite(lab, 'ada@example.com', 'member')
      const hers = await mint(lab, { type: 'PERSONAL', user_id: ada.id })
      await hers.refused(403, 'POST /v1/teams', { name: 'a' })
      assert.equal((await lab.ok<Person>(`PATCH /v1/users/${ada.id}`, { role: 'admin' })).role, 'admin')
      await hers.ok('POST /v1/teams', { name: 'a' })
      assert.equal((await lab.ok<Person>(`DELETE /v1/users/${ada.id}`)).email, 'ada@example.com')
      await hers.refused(401, 'GET /v1/models')
      await lab.refused(404, `DELETE /v1/users/${ada.id}`)
      await invite(lab, 'ada@example.com', 'member')
      await hers.refused(401, 'GET /v1/models')
    })

    test('owners are made and unmade by owners alone', async () => {
      lab = await management.lab()
      const owner = await invite(lab, 'owner@example.com', 'owner')
      const admin = await invite(lab, 'admin@example.com', 'admin')
      const ofAdmin = await mint(lab, { type: 'PERSONAL', user_id: admin.id })
      const ofOwner = await mint(lab, { type: 'PERSONAL', user_id: owner.id })
      await ofAdmin.refused(403, 'POST /v1/users', { email: 'eve@example.com', role: 'owner' })
      await ofAdmin.refused(403, `PATCH /v1/users/${admin.id}`, { role: 'owner' })
      await ofAdmin.refused(403, `PATCH /v1/users/${owner.id}`, { role: 'member' })
      await ofAdmin.refused(403, `DELETE /v1/users/${owner.id}`)
      await ofAdmin.refused(403, 'POST /v1/api_keys', { type: 'PERSONAL', user_id: owner.id })
      await ofOwner.ok(`PATCH /v1/users/${admin.id}`, { role: 'owner' })
      await ofAdmin.ok(`DELETE /v1/users/${owner.id}`)
    })
  })
})
