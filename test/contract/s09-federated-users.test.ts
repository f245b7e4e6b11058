import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

interface User {
  id: string
  customer_id: string
  models: object[]
  created_at: string
}

interface UserKey {
  api_key: string
  prefix: string
  name: string | null
  models: { slug: string }[]
}

/** Contract §9, and the older get-started guide. */
describe('federated users', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  const other = 'acme/other'
  const model = (slug: string, threshold = 100) => ({
    slug,
    rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold }],
    usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 1_000_000 }],
  })

  before(async () => {
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
    await gateway.publish(other, upstream.baseUrl)
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const upsert = (customer_id: string, models: object[]) =>
    gateway.manage<User>('POST', '/v1/gateway/users', { customer_id, models })
  const mint = (user: User, body: object = {}) =>
    gateway.manage<UserKey>('POST', `/v1/gateway/users/${user.id}/api_keys`, body)
  const statusOf = async (key: string, slug: string) => {
    const response = await gateway.infer(key, chat({ model: slug }))
    await response.text()
    return response.status
  }
  const refused = async (status: number, method: string, path: string, body?: object) =>
    assert.rejects(gateway.manage(method, path, body), new RegExp(`answered ${status}`))

  test('the older get-started guide works as it is written', async () => {
    const user = await upsert('cust_42', [model(defaultSlug)])
    assert.deepEqual(user, {
      id: user.id,
      customer_id: 'cust_42',
      models: [model(defaultSlug)],
      created_at: user.created_at,
    })
    const key = await mint(user, { name: 'prod-key-1' })
    assert.equal(key.name, 'prod-key-1')
    assert.deepEqual(key.models, [model(defaultSlug)])
    assert.equal(await statusOf(key.api_key, defaultSlug), 200)
    const usage = await gateway.manage('GET', `/v1/gateway/users/${user.id}/usage`)
    assert.equal(usage['customer_id'], 'cust_42')
    assert.deepEqual(Object.keys(usage['usage'] ?? {}), [defaultSlug])
  })

  test('a user is a root INDEPENDENT group, and such a group is a user', async () => {
    const user = await upsert('both-ways', [model(defaultSlug)])
    const group = await gateway.manage<{ metadata: object; hierarchy: object }>('GET', `/v1/gateway/groups/${user.id}`)
    assert.deepEqual(group.metadata, { name: null, external_entity_id: 'both-ways' })
    assert.deepEqual(group.hierarchy, { limit_enforcement: 'INDEPENDENT', parent_group_id: null })

    const made = await gateway.customer({ externalEntityId: 'made-as-group' })
    const seen = await gateway.manage('GET', `/v1/gateway/users/${made.groupId}`)
    assert.equal(seen['customer_id'], 'made-as-group')

    const child = await gateway.customer({ parent: made.groupId, externalEntityId: 'a-child' })
    await refused(404, 'GET', `/v1/gateway/users/${child.groupId}`)
    await refused(400, 'POST', '/v1/gateway/users', { customer_id: 'a-child', models: [model(defaultSlug)] })
  })

  test('the same customer id again replaces the models, and keeps the user and its keys', async () => {
    const user = await upsert('upserted', [model(defaultSlug)])
    const key = await mint(user)
    const again = await upsert('upserted', [model(other, 1)])
    assert.equal(again.id, user.id)
    assert.equal(again.created_at, user.created_at)
    assert.equal(await statusOf(key.api_key, defaultSlug), 404)
    assert.equal(await statusOf(key.api_key, other), 200)
    assert.equal(await statusOf(key.api_key, other), 429)
  })

  test('many upserts of one customer at once leave one user', async () => {
    const users = await Promise.all(Array.from({ length: 10 }, () => upsert('at-once', [model(defaultSlug)])))
    assert.equal(new Set(users.map(({ id }) => id)).size, 1)
  })

  test('a narrowed key calls what it was narrowed to and never more than the user; another follows the user', async () => {
    const user = await upsert('narrowed', [model(defaultSlug), model(other)])
    const narrow = await mint(user, { models: [{ slug: defaultSlug }] })
    const wide = await mint(user)
    assert.deepEqual(
      narrow.models.map(({ slug }) => slug),
      [defaultSlug],
    )
    assert.equal(await statusOf(narrow.api_key, defaultSlug), 200)
    assert.equal(await statusOf(narrow.api_key, other), 404)
    assert.equal(await statusOf(wide.api_key, other), 200)
    const listed = await fetch(`${gateway.inference}/v1/models`, {
      headers: { authorization: `Bearer ${narrow.api_key}` },
    })
    const { data } = (await listed.json()) as { data: { id: string }[] }
    assert.deepEqual(
      data.map(({ id }) => id),
      [defaultSlug],
    )

    await upsert('narrowed', [model(other)])
    assert.equal(await statusOf(narrow.api_key, defaultSlug), 404)
    assert.equal(await statusOf(narrow.api_key, other), 404)
    assert.equal(await statusOf(wide.api_key, other), 200)
    await refused(400, 'POST', `/v1/gateway/users/${user.id}/api_keys`, { models: [{ slug: defaultSlug }] })
    await refused(400, 'POST', `/v1/gateway/users/${user.id}/api_keys`, { models: [] })
  })

  test('a rotated key is as narrow as the one before', async () => {
    const user = await upsert('narrow-rotated', [model(defaultSlug), model(other)])
    const { prefix } = await mint(user, { models: [{ slug: defaultSlug }] })
    const successor = await gateway.manage<UserKey>('POST', `/v1/gateway/groups/${user.id}/api_keys/${prefix}/rotate`, {
      grace_seconds: 0,
    })
    assert.equal(await statusOf(successor.api_key, defaultSlug), 200)
    assert.equal(await statusOf(successor.api_key, other), 404)
  })

  test('a deleted user is gone with its keys, and its customer id is free again', async () => {
    const user = await upsert('deleted', [model(defaultSlug)])
    const { api_key, prefix } = await mint(user)
    const tombstone = await gateway.manage('DELETE', `/v1/gateway/users/${user.id}`)
    assert.deepEqual(Object.keys(tombstone).sort(), ['customer_id', 'deleted_at', 'id'])
    assert.equal(await statusOf(api_key, defaultSlug), 401)
    await refused(404, 'GET', `/v1/gateway/users/${user.id}`)
    await refused(404, 'GET', `/v1/gateway/users/${user.id}/api_keys/${prefix}`)
    assert.notEqual((await upsert('deleted', [model(defaultSlug)])).id, user.id)
  })

  test('lists show users and no other groups, and find one by its customer id', async () => {
    const { items } = await gateway.manage<{ items: User[] }>('GET', '/v1/gateway/users?customer_id=cust_42')
    assert.deepEqual(
      items.map(({ customer_id }) => customer_id),
      ['cust_42'],
    )
    const all = await gateway.manage<{ items: User[] }>('GET', '/v1/gateway/users')
    assert.ok(all.items.every(({ customer_id }) => customer_id !== 'a-child'))
  })

  test('a revoked key of a user is 404 ever after', async () => {
    const user = await upsert('revoker', [model(defaultSlug)])
    const { prefix } = await mint(user)
    const path = `/v1/gateway/users/${user.id}/api_keys/${prefix}`
    assert.equal((await gateway.manage('GET', path))['prefix'], prefix)
    assert.deepEqual(await gateway.manage('DELETE', path), { prefix })
    await refused(404, 'GET', path)
    await refused(404, 'DELETE', path)
  })
})
