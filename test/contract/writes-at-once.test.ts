import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

interface Answer {
  status: number
  body: Record<string, string>
}

interface Listed {
  items: { prefix: string }[]
}

/** Contract §8, §9, §16: whoever writes the same thing at the same moment, one consistent result is left. */
describe('writes at once', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
    customer = await gateway.customer({})
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const call = async (method: string, path: string, body?: object, key = gateway.workspaceKey): Promise<Answer> => {
    const response = await fetch(gateway.management + path, {
      method,
      headers: {
        authorization: `Api-Key ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    })
    return { status: response.status, body: (await response.json()) as Record<string, string> }
  }
  const atOnce = <Result>(count: number, work: (index: number) => Promise<Result>) =>
    Promise.all(Array.from({ length: count }, (_, index) => work(index)))
  /** How many answers there were of each status. */
  const tally = (answers: Answer[]) =>
    Object.fromEntries(
      [...Map.groupBy(answers, ({ status }) => status)].map(([status, { length }]) => [status, length]),
    )
  const statusOf = async (key: string) => {
    const response = await gateway.infer(key, chat())
    await response.text()
    return response.status
  }
  const keysOf = (groupId: string) => `/v1/gateway/groups/${groupId}/api_keys`

  test('keys minted at once are as many keys, all listed, all working', async () => {
    const { groupId } = await gateway.customer({})
    const minted = await atOnce(20, () => call('POST', keysOf(groupId), { name: 'the same' }))
    assert.deepEqual(tally(minted), { 200: 20 })
    const prefixes = new Set(minted.map(({ body }) => body['prefix']))
    assert.equal(prefixes.size, 20)
    const { items } = await gateway.manage<Listed>('GET', keysOf(groupId))
    assert.ok([...prefixes].every((prefix) => items.some((item) => item.prefix === prefix)))
    const statuses = await Promise.all(minted.map(({ body }) => statusOf(String(body['api_key']))))
    assert.deepEqual(new Set(statuses), new Set([200]))
  })

  test('of many deletions of one key at once, one is told that it did', async () => {
    const { body } = await call('POST', keysOf(customer.groupId), {})
    const path = `${keysOf(customer.groupId)}/${body['prefix']}`
    assert.deepEqual(tally(await atOnce(10, () => call('DELETE', path))), { 200: 1, 404: 9 })
    assert.equal(await statusOf(String(body['api_key'])), 401)
  })

  test('a key that is rotated and deleted at once is gone, and only a rotation that came first has a successor', async () => {
    for (const order of ['rotation first', 'deletion first']) {
      const { body: old } = await call('POST', keysOf(customer.groupId), {})
      const path = `${keysOf(customer.groupId)}/${old['prefix']}`
      const rotate = () => call('POST', `${path}/rotate`, { grace_seconds: 600 })
      const remove = () => call('DELETE', path)
      const both = order === 'rotation first' ? [rotate(), remove()] : [remove(), rotate()]
      const answers = await Promise.all(both)
      const [rotation, deletion] = order === 'rotation first' ? answers : answers.toReversed()
      assert.equal(deletion?.status, 200)
      assert.equal(await statusOf(String(old['api_key'])), 401)
      if (rotation?.status === 200) assert.equal(await statusOf(String(rotation.body['api_key'])), 200)
      else assert.equal(rotation?.status, 404)
    }
  })

  test('no key outlives its group, however many are minted while the group is deleted', async () => {
    const { groupId, key } = await gateway.customer({})
    assert.equal(await statusOf(key), 200)
    const minting = atOnce(20, () => call('POST', keysOf(groupId), {}))
    const deletion = await call('DELETE', `/v1/gateway/groups/${groupId}`)
    assert.equal(deletion.status, 200)
    const minted = (await minting).filter(({ status }) => status === 200)
    const keys = [key, ...minted.map(({ body }) => String(body['api_key']))]
    assert.deepEqual(new Set(await Promise.all(keys.map(statusOf))), new Set([401]))
  })

  test('of many deletions of one user at once, one is told that it did', async () => {
    const user = await call('POST', '/v1/gateway/users', { customer_id: 'gone', models: [{ slug: defaultSlug }] })
    const answers = await atOnce(10, () => call('DELETE', `/v1/gateway/users/${user.body['id']}`))
    assert.deepEqual(tally(answers), { 200: 1, 404: 9 })
  })

  test('a customer who is made as a user and as a group at once is one record', async () => {
    const models = [{ slug: defaultSlug }]
    const answers = await atOnce(20, (index) =>
      index % 2 === 0
        ? call('POST', '/v1/gateway/users', { customer_id: 'twice', models })
        : call('POST', '/v1/gateway/groups', { metadata: { external_entity_id: 'twice' }, models, hierarchy: {} }),
    )
    const made = answers.filter(({ status }) => status === 200)
    assert.ok(answers.every(({ status }, index) => status === 200 || (status === 400 && index % 2 === 1)))
    assert.equal(new Set(made.map(({ body }) => body['id'])).size, 1)
    const found = await gateway.manage<{ items: { id: string }[] }>(
      'GET',
      '/v1/gateway/groups?external_entity_id=twice',
    )
    assert.deepEqual(
      found.items.map(({ id }) => id),
      [made[0]?.body['id']],
    )
  })

  test('a hostname that two labs claim at once belongs to one of them', async () => {
    const { api_key } = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', {
      name: 'other lab',
      org_prefixes: ['other'],
    })
    const labs = [gateway.workspaceKey, api_key]
    const answers = await atOnce(10, (index) =>
      call('POST', '/v1/gateway/domains', { hostname: 'contested.example.com' }, labs[index % 2]),
    )
    assert.deepEqual(tally(answers), { 200: 1, 400: 9 })
    const id = answers.find(({ status }) => status === 200)?.body['id']
    const owner = labs[answers.findIndex(({ status }) => status === 200) % 2]
    const deletions = await atOnce(5, () => call('DELETE', `/v1/gateway/domains/${id}`, undefined, owner))
    assert.deepEqual(tally(deletions), { 200: 1, 404: 4 })
  })
})
