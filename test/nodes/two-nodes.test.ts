import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { openPostgresDatabase } from '../../src/storage/postgres.ts'
import { startReceiver } from '../delivery/receiver.ts'
import { chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { recordedEvents } from '../support/recorded-events.ts'
import { until } from '../support/until.ts'

describe('nodes on one PostgreSQL', () => {
  let server: PostgresServer
  let upstream: MockUpstream
  let one: Gateway
  let other: Gateway

  const startNode = (database: string) =>
    startGateway({
      settings: {
        TOLLGATE_DATABASE_URL: server.url(database),
        TOLLGATE_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
      },
    })

  before(async () => {
    server = await startPostgres()
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
    await server.create('shared')
    one = await startNode('shared')
    other = await startNode('shared')
    await one.publish(defaultSlug, upstream.baseUrl)
  })
  after(async () => {
    await one[Symbol.asyncDispose]()
    await other[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  test('that start at once on an empty database migrate it once and make one workspace, whose key all know', async () => {
    await server.create('empty')
    const nodes = await Promise.all([1, 2, 3].map(() => startNode('empty')))
    try {
      for (const { manage } of nodes) {
        const { items } = await manage<{ items: unknown[] }>('GET', '/v1/operator/workspaces')
        assert.equal(items.length, 1)
        await manage('GET', '/v1/gateway/groups')
      }
    } finally {
      for (const node of nodes) await node[Symbol.asyncDispose]()
    }
  })

  test('that record calls of one customer at once leave sequences without a gap, each event once', async () => {
    const { key, prefix } = await one.customer({})
    const calls = Array.from({ length: 150 }, (_, index) => (index % 2 === 0 ? one : other).infer(key, chat()))
    const completed = await Promise.all(
      calls.map(async (call) => {
        const response = await call
        await response.text()
        assert.equal(response.status, 200)
        return response.headers.get('x-request-id')
      }),
    )
    const events = await until(async () => {
      const found = await recordedEvents(one, prefix)
      return found.length === completed.length && found
    })
    assert.deepEqual(events.map(({ requestId }) => requestId).toSorted(), completed.toSorted())
    const first = events[0]?.sequence ?? 0
    assert.deepEqual(
      events.map(({ sequence }) => sequence),
      events.map((_, index) => first + index),
    )
    await using database = await openPostgresDatabase({ url: server.url('shared') })
    assert.deepEqual(await Array.fromAsync(verifyLedger(database.queries)), [])
  })

  test('that deliver to one webhook make each attempt once, and never two at a time', async () => {
    const underWay = new Set<string>()
    let atOnce = 0
    const attempts = new Map<string, number>()
    const accepted = new Set<string>()
    await using receiver = await startReceiver((post, response) => {
      if (underWay.has(post.requestId)) atOnce += 1
      underWay.add(post.requestId)
      const attempt = (attempts.get(post.requestId) ?? 0) + 1
      attempts.set(post.requestId, attempt)
      setTimeout(() => {
        underWay.delete(post.requestId)
        // Every third delivery fails at first: its retry is due on both nodes at the same time.
        const fails = attempt === 1 && attempts.size % 3 === 0
        if (!fails) for (const { idempotencyKey } of post.events) accepted.add(String(idempotencyKey))
        response.writeHead(fails ? 503 : 200).end()
      }, 20)
    })
    const webhook = await one.manage<{ id: string }>('POST', '/v1/gateway/webhooks', { url: receiver.url })
    const { key, prefix } = await other.customer({ externalEntityId: 'delivered' })
    for (let round = 0; round < 12; round += 1) {
      await Promise.all([one, other].map(async (node) => (await node.infer(key, chat())).text()))
      await new Promise((resolve) => setTimeout(resolve, 60))
    }
    const recorded = await until(async () => {
      const events = await recordedEvents(one, prefix)
      return events.length === 24 && events
    })
    const path = `/v1/gateway/webhooks/${webhook.id}/deliveries`
    await until(
      async () => {
        const pending = await one.manage<{ items: unknown[] }>('GET', `${path}?status=pending`)
        return pending.items.length === 0 && recorded.every(({ idempotencyKey }) => accepted.has(idempotencyKey))
      },
      { withinMs: 20_000, everyMs: 50 },
    )
    const { items } = await one.manage<{ items: { attempts: number }[] }>('GET', path)
    assert.equal(atOnce, 0)
    assert.equal(
      receiver.posts.length,
      items.reduce((sum, delivery) => sum + delivery.attempts, 0),
      'the receiver saw exactly the attempts that were recorded',
    )
    await one.manage('DELETE', `/v1/gateway/webhooks/${webhook.id}`)
  })

  test('that are asked for the same name at once give it to one, and refuse the others as taken', async () => {
    const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'm' }
    const group = { models: [{ slug: defaultSlug }], hierarchy: {} }
    const wanted: [path: string, body: object][] = [
      ['/v1/gateway/groups', { ...group, metadata: { external_entity_id: 'wanted by both' } }],
      ['/v1/gateway/endpoints', { slug: 'acme/wanted', targets: [target] }],
      ['/v1/gateway/domains', { hostname: 'wanted.example.com' }],
      ['/v1/teams', { name: 'wanted' }],
      ['/v1/users', { email: 'wanted@example.com' }],
      ['/v1/operator/workspaces', { name: 'wanted', org_prefixes: ['wanted-prefix'] }],
    ]
    for (const [path, body] of wanted) {
      const statuses = await Promise.all(
        [one, other, one, other].map((node) =>
          node.manage('POST', path, body).then(
            () => 200,
            (error: Error) => Number(/answered (\d+)/.exec(error.message)?.[1]),
          ),
        ),
      )
      assert.deepEqual(statuses.toSorted(), [200, 400, 400, 400], path)
    }
  })

  describe('hold what was changed on another within a second:', () => {
    /** How long it takes until calls on the other node are answered with `status`. */
    async function answeredWith(status: number, key: string): Promise<number> {
      const startedMs = performance.now()
      await until(
        async () => {
          const response = await other.infer(key, chat())
          await response.text()
          return response.status === status
        },
        { withinMs: 1_000 },
      )
      return performance.now() - startedMs
    }

    test('a revoked key', async (t) => {
      const { groupId, key, prefix } = await one.customer({})
      await answeredWith(200, key)
      await one.manage('DELETE', `/v1/gateway/groups/${groupId}/api_keys/${prefix}`)
      t.diagnostic(`a revocation held on the other node after ${Math.round(await answeredWith(401, key))} ms`)
    })

    test('a slug that the other node has just not found', async () => {
      const status = async () => (await other.infer(one.workspaceKey, chat({ model: 'acme/awaited' }))).status
      assert.equal(await status(), 404)
      await one.publish('acme/awaited', upstream.baseUrl)
      await until(async () => (await status()) === 200, { withinMs: 1_000 })
    })

    test('the limits of an ancestor', async () => {
      const parent = await one.customer({ enforcement: 'CASCADING' })
      const child = await one.customer({ parent: parent.groupId, enforcement: 'CASCADING' })
      await answeredWith(200, child.key)
      await one.manage('PATCH', `/v1/gateway/groups/${parent.groupId}`, {
        models: [{ slug: defaultSlug, rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 0 }] }],
      })
      await answeredWith(429, child.key)
    })

    test('a deleted group', async () => {
      const { groupId, key } = await one.customer({})
      await answeredWith(200, key)
      await one.manage('DELETE', `/v1/gateway/groups/${groupId}`)
      await answeredWith(401, key)
    })

    test('where a slug leads', async () => {
      await one.publish('acme/moving', upstream.baseUrl)
      const { key } = await one.customer({ slug: 'acme/moving' })
      const status = async () => (await other.infer(key, chat({ model: 'acme/moving' }))).status
      assert.equal(await status(), 200)
      const { items } = await one.manage<{ items: { id: string; slug: string }[] }>('GET', '/v1/gateway/endpoints')
      const endpoint = items.find(({ slug }) => slug === 'acme/moving')
      await one.manage('DELETE', `/v1/gateway/endpoints/${endpoint?.id}`)
      await until(async () => (await status()) === 404, { withinMs: 1_000 })
    })

    test('whose a domain is', async () => {
      const { key } = await one.customer({})
      const lab = await one.manage<{ id: string; api_key: string }>('POST', '/v1/operator/workspaces', {
        name: 'lab',
        org_prefixes: ['lab'],
      })
      const isAnswered = (status: number) =>
        until(async () => (await statusUnder('api.lab.example.com', { node: other, key })) === status, {
          withinMs: 1_000,
        })
      await isAnswered(200)
      await fetch(`${one.management}/v1/gateway/domains`, {
        method: 'POST',
        headers: { authorization: `Api-Key ${lab.api_key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ hostname: 'api.lab.example.com' }),
      })
      await isAnswered(401)
      await one.manage('DELETE', `/v1/operator/workspaces/${lab.id}`)
      await isAnswered(200)
    })
  })
})

/** The status of a list of models, asked for under `host`. */
function statusUnder(host: string, { node, key }: { node: Gateway; key: string }): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const headers = { host, authorization: `Bearer ${key}` }
    request(`${node.inference}/v1/models`, { headers }, (response) => {
      response.resume()
      resolve(response.statusCode)
    })
      .on('error', reject)
      .end()
  })
}
