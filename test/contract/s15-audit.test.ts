import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { publicPrefix } from '../../src/access/api-key.ts'
import { type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

interface Entry {
  id: string
  created: string
  event_type: string
  event_data: Record<string, unknown>
  actor: { type: string; email: string | null; api_key_prefix: string | null; api_key_name: string | null }
  source: string
  client_name: string | null
  client_version: string | null
}

const production = { name: 'production', base_url: 'http://127.0.0.1:1/v1' }

describe('an entry of the audit log', () => {
  const clock = new ManualClock()
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement({ clock })
  })
  after(() => management[Symbol.asyncDispose]())

  const entries = async (query = '') => (await lab.ok<Page<Entry>>(`GET /v1/audit_logs?limit=200${query}`)).items

  test('tells of every write, in the shape of its kind', async () => {
    lab = await management.lab()
    let written = 0
    const write = async (
      request: string,
      body: object | undefined,
      type: string,
      data: (answer: Record<string, string>) => object,
    ) => {
      const answer = await lab.ok<Record<string, string>>(request, body)
      written += 1
      const [newest] = await entries()
      assert.deepEqual(newest?.event_data, { event_type: type, ...data(answer) }, request)
      assert.equal(newest.event_type, type)
      return answer
    }

    const secret = (answer: Record<string, string>) => ({ secret_id: answer['id'], secret_name: 'hf' })
    const { id: secretId } = await write('POST /v1/secrets', { name: 'hf', value: 'v' }, 'SECRET_UPDATED', secret)
    await write('DELETE /v1/secrets/hf', undefined, 'SECRET_DELETED', () => ({
      secret_id: secretId,
      secret_name: 'hf',
    }))

    const model = await write(
      'POST /v1/models',
      { name: 'm', environments: [production] },
      'MODEL_CREATED',
      ({ id }) => ({
        model_id: id,
        model_name: 'm',
        environment_names: ['production'],
      }),
    )
    await write(`PATCH /v1/models/${model['id']}`, { name: 'n' }, 'MODEL_UPDATED', () => ({
      model_id: model['id'],
      model_name: 'n',
      environment_names: ['production'],
    }))
    const targets = [{ provider: 'SELF_HOSTED', model_id: model['id'] }]
    const slug = `${lab.orgPrefix}/a`
    const endpoint = await write(
      'POST /v1/gateway/endpoints',
      { slug, targets },
      'GATEWAY_ENDPOINT_CREATED',
      ({ id }) => ({
        gateway_endpoint_id: id,
        slug,
      }),
    )
    const renamed = { gateway_endpoint_id: endpoint['id'], slug: `${lab.orgPrefix}/b` }
    const path = `/v1/gateway/endpoints/${endpoint['id']}`
    await write(`PATCH ${path}`, { slug: renamed.slug }, 'GATEWAY_ENDPOINT_UPDATED', () => ({
      ...renamed,
      previous_slug: slug,
    }))
    await write(`PATCH ${path}`, { targets }, 'GATEWAY_ENDPOINT_UPDATED', () => ({ ...renamed, previous_slug: null }))
    await write(`DELETE ${path}`, undefined, 'GATEWAY_ENDPOINT_DELETED', () => renamed)
    await write(`DELETE /v1/models/${model['id']}`, undefined, 'MODEL_DELETED', () => ({
      model_id: model['id'],
      model_name: 'n',
    }))

    const declared = { metadata: { external_entity_id: 'cust_1' }, models: [{ slug: 'a/b' }], hierarchy: {} }
    const group = await write('POST /v1/gateway/groups', declared, 'GROUP_CREATED', ({ id }) => ({
      group_id: id,
      external_entity_id: 'cust_1',
    }))
    const audited = { group_id: group['id'], external_entity_id: 'cust_1' }
    await write(`PATCH /v1/gateway/groups/${group['id']}`, { models: [] }, 'GROUP_UPDATED', () => audited)
    const keys = `/v1/gateway/groups/${group['id']}/api_keys`
    const key = await write(`POST ${keys}`, {}, 'FEDERATED_KEY_CREATED', ({ prefix }) => ({
      prefix,
      group_id: group['id'],
    }))
    await write(`DELETE ${keys}/${key['prefix']}`, undefined, 'FEDERATED_KEY_DELETED', () => ({
      prefix: key['prefix'],
      group_id: group['id'],
    }))
    await write(`DELETE /v1/gateway/groups/${group['id']}`, undefined, 'GROUP_DELETED', () => audited)

    const team = await write('POST /v1/teams', { name: 't' }, 'TEAM_CREATED', ({ id }) => ({
      team_id: id,
      team_name: 't',
    }))
    await write(`DELETE /v1/teams/${team['id']}`, undefined, 'TEAM_DELETED', () => ({
      team_id: team['id'],
      team_name: 't',
    }))
    const ada = await write('POST /v1/users', { email: 'ada@example.com' }, 'USER_INVITED', () => ({
      invited_user_email: 'ada@example.com',
      role_name: 'member',
    }))
    await write(`PATCH /v1/users/${ada['id']}`, { role: 'admin' }, 'USER_ROLE_UPDATED', () => ({
      user_id: ada['id'],
      user_email: 'ada@example.com',
      new_role_name: 'admin',
    }))
    await write(`DELETE /v1/users/${ada['id']}`, undefined, 'USER_REMOVED', () => ({
      removed_user_email: 'ada@example.com',
    }))
    assert.equal((await entries()).length, written + 1)
    assert.deepEqual((await entries()).at(-1)?.event_data, {
      event_type: 'WORKSPACE_CREATED',
      workspace_id: lab.workspaceId,
      workspace_name: `lab ${lab.orgPrefix.slice(4)}`,
    })
  })

  test('tells of the keys that are minted, renamed and revoked, and of which kind they are', async () => {
    lab = await management.lab()
    const { id: model } = await lab.ok<{ id: string }>('POST /v1/models', { name: 'm', environments: [production] })
    const kinds: [object, string][] = [
      [{ type: 'PERSONAL' }, 'PERSONAL'],
      [{ type: 'WORKSPACE_MANAGE_ALL' }, 'CREATOR_SERVICE_ACCOUNT'],
      [{ type: 'WORKSPACE_MANAGE_API_KEYS' }, 'MANAGE_API_KEYS_SERVICE_ACCOUNT'],
      [{ type: 'WORKSPACE_INVOKE' }, 'INVOKE_ALL_MODELS_SERVICE_ACCOUNT'],
      [{ type: 'WORKSPACE_INVOKE', model_ids: [model] }, 'INVOKE_ALLOWED_MODELS_SERVICE_ACCOUNT'],
      [{ type: 'WORKSPACE_INVOKE', environments: ['a'] }, 'INVOKE_SCOPED_ENVS_AND_MODELS_SERVICE_ACCOUNT'],
      [{ type: 'WORKSPACE_EXPORT_METRICS' }, 'EXPORT_METRICS_ALL_MODELS_SERVICE_ACCOUNT'],
      [{ type: 'WORKSPACE_EXPORT_METRICS', model_ids: [model] }, 'EXPORT_METRICS_ALLOWED_MODELS_SERVICE_ACCOUNT'],
    ]
    for (const [body, api_key_type] of kinds) {
      const { api_key } = await lab.ok<{ api_key: string }>('POST /v1/api_keys', body)
      const prefix = publicPrefix(api_key)
      await lab.ok(`PATCH /v1/api_keys/${prefix}`, { name: 'renamed' })
      await lab.ok(`DELETE /v1/api_keys/${prefix}`)
      const [deleted, updated, created] = await entries()
      for (const [entry, event_type] of [
        [created, 'API_KEY_CREATED'],
        [updated, 'API_KEY_UPDATED'],
        [deleted, 'API_KEY_DELETED'],
      ] as const) {
        const api_key_id = created?.event_data['api_key_id']
        assert.deepEqual(entry?.event_data, { event_type, api_key_id, api_key_type, prefix })
      }
    }
  })

  test('names the key that did it, and for a personal key the person; the operator has neither', async () => {
    lab = await management.lab()
    const ada = await lab.ok<{ id: string }>('POST /v1/users', { email: 'ada@example.com', role: 'admin' })
    const body = { type: 'PERSONAL', user_id: ada.id, name: 'laptop' }
    const { api_key } = await lab.ok<{ api_key: string }>('POST /v1/api_keys', body)
    await management.caller(api_key).ok('POST /v1/teams', { name: 't' })
    await management.operator.ok(`PATCH /v1/operator/workspaces/${lab.workspaceId}`, { name: 'renamed' })
    const [byOperator, byAda, byLab] = await entries()
    const nobody = { email: null, api_key_prefix: null, api_key_name: null }
    assert.deepEqual(byOperator?.actor, { type: 'BASETEN_USER', ...nobody })
    assert.deepEqual(byAda?.actor, {
      type: 'USER',
      email: 'ada@example.com',
      api_key_prefix: publicPrefix(api_key),
      api_key_name: 'laptop',
    })
    assert.deepEqual(byLab?.actor, { type: 'API_KEY', ...nobody, api_key_prefix: publicPrefix(lab.key) })
    await lab.ok(`DELETE /v1/users/${ada.id}`)
    assert.equal((await entries('&search=ada@example.com&event_type_groups=USER_MANAGEMENT')).length, 3)
  })

  test('says when, and whether one of our own pages or a program asked', async () => {
    lab = await management.lab()
    clock.advance(60_000)
    await lab.call('POST /v1/teams', { name: 'a' }, { 'user-agent': 'curl/8.5.0' })
    await lab.call(
      'POST /v1/teams',
      { name: 'b' },
      { 'user-agent': 'Mozilla/5.0 (X11)', 'sec-fetch-site': 'same-origin' },
    )
    const [byPage, byProgram] = await entries()
    assert.deepEqual(
      [byProgram, byPage].map((entry) => [entry?.source, entry?.client_name, entry?.client_version, entry?.created]),
      [
        ['API', 'curl', '8.5.0', new Date(clock.now()).toISOString()],
        ['UI', 'Mozilla', '5.0', new Date(clock.now()).toISOString()],
      ],
    )
  })

  test('has no entry for what was refused, and one for a request that was sent twice with its Idempotency-Key', async () => {
    lab = await management.lab()
    const before = (await entries()).length
    await lab.refused(400, 'POST /v1/teams', { name: '' })
    await lab.refused(404, 'DELETE /v1/secrets/none')
    await lab.refused(400, 'POST /v1/teams', { name: 'Default' })
    assert.equal((await entries()).length, before)
    for (let sent = 0; sent < 2; sent += 1) {
      assert.equal((await lab.call('POST /v1/teams', { name: 'once' }, { 'idempotency-key': 'k-1' })).status, 200)
    }
    assert.equal((await entries()).length, before + 1)
  })

  test('is written with the change or not at all', async () => {
    await using broken = await startManagement()
    const owner = await broken.lab()
    await broken.database.queries.schema.alterTable('audit_logs').renameTo('away').execute()
    await owner.refused(500, 'POST /v1/teams', { name: 'unseen' })
    assert.deepEqual((await owner.ok<{ teams: object[] }>('GET /v1/teams?name=unseen')).teams, [])
  })

  test('holds no secret, whatever was written', async () => {
    lab = await management.lab()
    const group = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: 'c' },
      models: [{ slug: 'a/b' }],
      hierarchy: {},
    })
    const minted = [
      await lab.ok<{ api_key: string }>('POST /v1/api_keys', { type: 'WORKSPACE_INVOKE' }),
      await lab.ok<{ api_key: string }>(`POST /v1/gateway/groups/${group.id}/api_keys`),
    ]
    const { signing_secret } = await lab.ok<{ signing_secret: string }>('POST /v1/gateway/webhooks', {
      url: 'http://127.0.0.1:9/?token=hidden-in-a-url',
    })
    await lab.ok('POST /v1/secrets', { name: 's', value: 'hidden-value' })
    const rows = await management.database.queries.selectFrom('audit_logs').selectAll().execute()
    const log = JSON.stringify(rows)
    const secrets = minted.map(({ api_key }) => api_key.slice(publicPrefix(api_key).length + 1))
    for (const secret of [...secrets, signing_secret, 'hidden-value', 'hidden-in-a-url', lab.key]) {
      assert.ok(!log.includes(secret))
    }
    assert.ok(log.includes(publicPrefix(minted[0]?.api_key ?? '')))
  })
})
