import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { keyHash } from '../../src/access/api-key.ts'
import { resourcesOf, validBodies } from '../support/lab-resources.ts'
import { type Lab, type Management, operations, startManagement } from '../support/management-client.ts'

describe('who may call the management API', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
  })
  after(() => management[Symbol.asyncDispose]())

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

  test('what another workspace owns is a 403, and what nobody owns a 404, on every route with an id', async () => {
    const owner = await management.lab()
    const theirs = await resourcesOf(owner)
    for (const { method, path } of operations(management)) {
      if (!path.includes('{') || path.startsWith('/v1/operator/')) continue
      const body = validBodies[`${method} ${path}`]
      const expected = path.includes('{secret_name}') ? 404 : 403
      await lab.refused(expected, `${method} ${theirs.fill(path)}`, body)
      await lab.refused(404, `${method} ${path.replaceAll(/\{\w+\}/g, 'nowhere')}`, body)
      await owner.ok(`GET ${theirs.fill('/v1/gateway/groups/{group_id}/api_keys/{api_key_prefix}')}`)
    }
  })

  test("a key of another workspace is a 403 under one's own group, a key of another group a 404", async () => {
    const owner = await management.lab()
    const theirs = await resourcesOf(owner)
    const mine = await resourcesOf(lab)
    const ours = await resourcesOf(lab, 'second')
    const keys = mine.fill('/v1/gateway/groups/{group_id}/api_keys')
    for (const method of ['GET', 'DELETE']) {
      await lab.refused(403, `${method} ${keys}/${theirs.fill('{api_key_prefix}')}`)
      await lab.refused(404, `${method} ${keys}/${ours.fill('{api_key_prefix}')}`)
    }
  })
})
