import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { recordedEvents } from '../support/recorded-events.ts'
import { type RedisServers, startRedis, withoutRedis } from '../support/redis.ts'
import { startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

describe('nodes on one Redis', withoutRedis, () => {
  let server: PostgresServer
  let redis: RedisServers
  let upstream: MockUpstream
  let nodes: Gateway[]
  const settings = () => ({
    TOLLGATE_DATABASE_URL: server.url('limits'),
    TOLLGATE_REDIS_URL: redis.url,
    TOLLGATE_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
  })

  before(async () => {
    server = await startPostgres()
    redis = await startRedis()
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
    await server.create('limits')
    nodes = [await startGateway({ settings: settings() })]
    nodes.push(await startGateway({ settings: { ...settings(), TOLLGATE_WORKERS: '2' } }))
    nodes.push(await startGateway({ settings: { ...settings(), TOLLGATE_LIMITS_FALLBACK: 'reject' } }))
    await node(0).publish(defaultSlug, upstream.baseUrl)
  })
  after(async () => {
    for (const each of nodes) await each[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
    await redis[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  function node(index: number): Gateway {
    const found = nodes[index % nodes.length]
    assert.ok(found)
    return found
  }

  /** So many calls at once, over all nodes; resolves with their statuses. */
  async function call(key: string, times: number): Promise<number[]> {
    return Promise.all(
      Array.from({ length: times }, async (_, index) => {
        const response = await node(index).infer(key, chat())
        await response.text()
        return response.status
      }),
    )
  }

  test('admit exactly the threshold together, and count the day together', async () => {
    const customer = await node(0).customer({
      limits: [
        { type: 'REQUEST', unit: 'MINUTE', threshold: 90 },
        { type: 'TOKEN', unit: 'DAY', threshold: 100_000 },
      ],
    })
    const statuses = await call(customer.key, 300)
    assert.equal(statuses.filter((status) => status === 200).length, 90)
    assert.equal(statuses.filter((status) => status === 429).length, 210)
    for (const each of nodes) assert.equal(await tokensToday(each, customer), 90 * 30)
  })

  test('share a limit of the day to the last token, however much is asked at once', async () => {
    const { key } = await node(0).customer({ limits: [{ type: 'REQUEST', unit: 'DAY', threshold: 25 }] })
    const statuses = await call(key, 60)
    assert.equal(statuses.filter((status) => status === 200).length, 25)
  })

  test('count what a killed node served, once, also when Redis is emptied: the day equals the record', async () => {
    using folder = temporaryFolder()
    const customer = await node(0).customer({ limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 1_000_000 }] })
    let isOver = false
    const load = Array.from({ length: 4 }, async (_, index) => {
      while (!isOver) {
        const response = await node(index).infer(customer.key, chat())
        await response.text()
      }
    })
    for (let kills = 0; kills < 2; kills += 1) {
      const mortal = await startServed(folder.path, settings())
      const calls = Array.from({ length: 3 }, () => callUntilKilled(mortal.inference, customer.key))
      await delay(150 + Math.random() * 100)
      await mortal.kill()
      await Promise.all(calls)
      if (kills === 1) await redis.send(['FLUSHALL'])
    }
    // The last to die leaves its journal to a successor.
    await using _successor = await startServed(folder.path, settings())
    isOver = true
    await Promise.all(load)
    await agreeWithRecord(customer)
    await redis.send(['FLUSHALL'])
    await agreeWithRecord(customer)
  })

  /** All nodes show the same usage: the sum over the events. */
  async function agreeWithRecord(customer: Customer): Promise<void> {
    const sums = await until(
      async () => {
        const events = await recordedEvents(node(0), customer.prefix)
        const recorded = events.reduce((sum, { tokens }) => sum + tokens.inputTokens + tokens.outputTokens, 0)
        const used = await Promise.all(nodes.map((each) => tokensToday(each, customer)))
        return used.every((tokens) => tokens === recorded) && { recorded, used }
      },
      { withinMs: 5_000, everyMs: 100 },
    )
    assert.ok(sums.recorded > 0)
  }

  test('go on alone or answer 503, as they are told, while Redis is away, and together again when it is back', async () => {
    const { key } = await node(0).customer({ limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 5 }] })
    await redis.kill()
    const [alone, withWorkers, rejecting] = await Promise.all(
      nodes.map((each) =>
        Promise.all(
          Array.from({ length: 8 }, async () => {
            const response = await each.infer(key, chat())
            return {
              status: response.status,
              retryAfter: response.headers.get('retry-after'),
              body: (await response.json()) as { error?: { code: string } },
            }
          }),
        ),
      ),
    )
    for (const answers of [alone, withWorkers]) {
      assert.equal(answers?.filter(({ status }) => status === 200).length, 5)
      assert.equal(answers?.filter(({ status }) => status === 429).length, 3)
    }
    for (const { status, retryAfter, body } of rejecting ?? []) {
      assert.deepEqual([status, retryAfter, body.error?.code], [503, '1', 'service_unavailable'])
    }
    for (const each of nodes) assert.match(await metricsOf(each), /^tollgate_counter_store_healthy 0$/m)

    await redis.start()
    for (const each of nodes) await until(async () => /^tollgate_counter_store_healthy 1$/m.test(await metricsOf(each)))
    const another = await node(0).customer({ limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 10 }] })
    const statuses = await call(another.key, 45)
    assert.equal(statuses.filter((status) => status === 200).length, 10)
  })
})

/** Calls a node again and again; resolves once it does not answer any more. */
async function callUntilKilled(inference: string, key: string): Promise<void> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const body = JSON.stringify(chat())
  try {
    for (;;) await (await fetch(`${inference}/v1/chat/completions`, { method: 'POST', headers, body })).text()
  } catch (error) {
    assert.ok(error instanceof TypeError, 'the connection broke')
  }
}

async function tokensToday(gateway: Gateway, { groupId }: Customer): Promise<number> {
  const { usage } = await gateway.manage<{ usage: Record<string, { type: string; current_usage: number }[]> }>(
    'GET',
    `/v1/gateway/groups/${groupId}/usage`,
  )
  return usage[defaultSlug]?.find(({ type }) => type === 'TOKEN')?.current_usage ?? 0
}

async function metricsOf(gateway: Gateway): Promise<string> {
  const response = await fetch(`${gateway.management}/metrics`, {
    headers: { authorization: `Api-Key ${gateway.workspaceKey}` },
  })
  return response.text()
}
