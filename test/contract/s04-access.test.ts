import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { keyHash } from '../../src/access/api-key.ts'
import type { WorkspaceKeyType } from '../../src/access/permissions.ts'
import { type ErrorBody, type Lab, type Management, operations, startManagement } from '../support/management-client.ts'

/** What contract §10 says of each type of key, as the paths that it may call; of operator routes, none. */
const mayCall: Record<WorkspaceKeyType, (path: string) => boolean> = {
  PERSONAL: () => true,
  WORKSPACE_MANAGE_ALL: () => true,
  WORKSPACE_INVOKE: () => false,
  WORKSPACE_EXPORT_METRICS: (path) => path === '/metrics',
  WORKSPACE_MANAGE_API_KEYS: (path) => path.includes('/api_keys'),
}

describe('who may call the management API', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
  })
  after(() => management[Symbol.asyncDispose]())

  test('every route refuses a missing key and an unknown one, with the same 401', async () => {
    const messages = new Set<string>()
    for (const { request } of operations(management)) {
      for (const caller of [management.caller(null), management.caller('nobody.knows-this-key-at-all')]) {
        const answer = await caller.call<ErrorBody>(request)
        assert.equal(answer.status, 401, request)
        assert.ok(answer.headers.get('www-authenticate'))
        messages.add(JSON.stringify(answer.body))
      }
    }
    assert.equal(messages.size, 1)
  })

  test('a federated key, a revoked key and a key in a form that is not taken are unknown here', async () => {
    const group = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: 'customer' },
      models: [{ slug: 'org-1/a' }],
      hierarchy: {},
    })
    const { api_key } = await lab.ok<{ api_key: string }>(`POST /v1/gateway/groups/${group.id}/api_keys`)
    await management.caller(api_key).refused(401, 'GET /v1/models')

    const former = await management.lab()
    await former.ok('GET /v1/models')
    await management.database.queries
      .updateTable('workspace_keys')
      .set({ revoked_at: 1 })
      .where('hash', '=', keyHash(former.key))
      .execute()
    await former.refused(401, 'GET /v1/models')

    const bare = management.caller(null)
    for (const headers of [
      { authorization: lab.key },
      { authorization: `Basic ${lab.key}` },
      { 'x-api-key': lab.key },
      { authorization: `Bearer ${lab.key} ${lab.key}` },
    ]) {
      assert.equal((await bare.call('GET /v1/models', undefined, headers)).status, 401)
    }
  })

  test('Api-Key and Bearer are taken, in any case', async () => {
    const bare = management.caller(null)
    for (const scheme of ['Api-Key', 'api-key', 'API-KEY', 'Bearer', 'bearer', 'BEARER']) {
      const { status } = await bare.call('GET /v1/models', undefined, { authorization: `${scheme} ${lab.key}` })
      assert.equal(status, 200, scheme)
    }
  })

  test('the operator key is unknown to every route but the operator ones', async () => {
    for (const { request, path } of operations(management)) {
      const { status } = await management.operator.call(request)
      if (path.startsWith('/v1/operator/')) assert.notEqual(status, 401, request)
      else assert.equal(status, 401, request)
    }
  })

  for (const [type, mayCallPath] of Object.entries(mayCall) as [WorkspaceKeyType, (path: string) => boolean][]) {
    test(`a ${type} key gets 403 on exactly the routes that it may not call`, async () => {
      const caller = await management.keyOfType(type, lab.workspaceId)
      for (const { request, path } of operations(management)) {
        const { status, body } = await caller.call<ErrorBody>(request)
        assert.notEqual(status, 401, request)
        if (mayCallPath(path) && !path.startsWith('/v1/operator/')) assert.notEqual(status, 403, request)
        else assert.equal(status, 403, `${request}: ${JSON.stringify(body)}`)
      }
    })
  }

  test('what another workspace owns is a 403, and what nobody owns a 404, on every route with an id', async () => {
    const owner = await management.lab()
    const theirs = await resourcesOf(owner, management)
    for (const { method, path } of operations(management)) {
      if (!path.includes('{') || path.startsWith('/v1/operator/')) continue
      const body = validBodies[`${method} ${path}`]
      const foreign = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => theirs(name))
      const expected = path.includes('{secret_name}') ? 404 : 403
      await lab.refused(expected, `${method} ${foreign}`, body)
      await lab.refused(404, `${method} ${path.replaceAll(/\{\w+\}/g, 'nowhere')}`, body)
      await owner.ok(`GET /v1/gateway/groups/${theirs('group_id')}/api_keys/${theirs('api_key_prefix')}`)
    }
  })

  test("a key of another workspace is a 403 under one's own group, a key of another group a 404", async () => {
    const owner = await management.lab()
    const theirs = await resourcesOf(owner, management)
    const mine = await resourcesOf(lab, management)
    const ours = await resourcesOf(lab, management, 'second')
    for (const method of ['GET', 'DELETE']) {
      const path = (prefix: string) => `${method} /v1/gateway/groups/${mine('group_id')}/api_keys/${prefix}`
      await lab.refused(403, path(theirs('api_key_prefix')))
      await lab.refused(404, path(ours('api_key_prefix')))
    }
  })
})

/** Bodies that the routes take, where not any, so that only the id is at fault. */
const validBodies: Record<string, object> = {
  'PATCH /v1/gateway/groups/{group_id}': { metadata: { name: null } },
  'POST /v1/teams/{team_id}/secrets': { name: 'a', value: 'b' },
}

/** One resource of each kind; resolves with a look-up from a path parameter's name to the id. */
async function resourcesOf(
  lab: Lab,
  { database }: Management,
  suffix = 'first',
): Promise<(parameter: string) => string> {
  const team = await database.queries
    .selectFrom('teams')
    .select('id')
    .where('workspace_id', '=', lab.workspaceId)
    .executeTakeFirstOrThrow()
  const secret = await lab.ok<{ name: string }>('POST /v1/secrets', { name: `secret-${suffix}`, value: 'v' })
  const model = await lab.ok<{ id: string }>('POST /v1/models', {
    name: 'm',
    environments: [{ name: 'production', base_url: 'http://127.0.0.1:1/v1' }],
  })
  const endpoint = await lab.ok<{ id: string }>('POST /v1/gateway/endpoints', {
    slug: `${lab.orgPrefix}/${suffix}`,
    targets: [{ provider: 'SELF_HOSTED', model_id: model.id }],
  })
  const group = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
    metadata: { external_entity_id: `customer-${suffix}` },
    models: [{ slug: 'a/b' }],
    hierarchy: {},
  })
  const key = await lab.ok<{ prefix: string }>(`POST /v1/gateway/groups/${group.id}/api_keys`)
  const ids: Record<string, string> = {
    team_id: team.id,
    secret_name: secret.name,
    model_id: model.id,
    endpoint_id: endpoint.id,
    group_id: group.id,
    api_key_prefix: key.prefix,
  }
  return (parameter) => {
    const id = ids[parameter]
    assert.ok(id, `this test must learn what a {${parameter}} is`)
    return id
  }
}
