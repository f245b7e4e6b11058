import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { openPostgresDatabase } from '../../src/storage/postgres.ts'
import { type Receiver, startReceiver } from '../delivery/receiver.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { call, customer, manage, readEvents, setUp, slug, sumOf, usageToday } from '../support/record-under-load.ts'
import { type RedisServers, startRedis, withoutRedis } from '../support/redis.ts'
import { type ServedProcess, startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

const database = 'outages'

/** Three processes on one PostgreSQL and one Redis, while these and two of themselves are taken away under load. */
describe('three nodes on real engines', withoutRedis, () => {
  const started = new AsyncDisposableStack()
  const completed = new Set<string>()
  const nodes: ServedProcess[] = []
  let postgres: PostgresServer
  let redis: RedisServers
  let receiver: Receiver
  let folder: string
  let load: { groupId: string; key: string }

  before(async () => {
    postgres = started.use(await startPostgres())
    redis = started.use(await startRedis())
    receiver = started.use(await startReceiver())
    folder = started.use(temporaryFolder()).path
    const upstream = started.use(await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } }))
    await postgres.create(database)
    started.defer(async () => {
      await Promise.all(nodes.map((each) => each.kill()))
    })
    for (const index of [0, 1, 2]) await startNode(index)
    load = await setUp(node(0), { upstream, webhookUrl: receiver.url })
  })
  after(() => started.disposeAsync())

  test('admit 90 of 300 requests at once through a cascading limit of 90', async (t) => {
    const { id: parentId } = await manage<{ id: string }>(node(0), 'POST', '/v1/gateway/groups', {
      models: [{ slug, rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 90 }] }],
      metadata: { external_entity_id: 'cust_90' },
      hierarchy: { limit_enforcement: 'CASCADING' },
    })
    const hierarchy = { parent_group_id: parentId, limit_enforcement: 'CASCADING' }
    const children = await Promise.all(
      [1, 2, 3].map((team) => customer(node(0), { entityId: `cust_90_team_${team}`, hierarchy })),
    )
    const calls = Array.from({ length: 300 }, (_, index) => callAndNote(index, children[index % 3]?.key ?? ''))
    const admitted = (await Promise.all(calls)).filter((isComplete) => isComplete).length
    t.diagnostic(`300 requests at once over 3 nodes and 3 groups below a limit of 90: ${admitted} admitted`)
    assert.equal(admitted, 90)
  })

  test('serve a revoked key nowhere a second after the revocation was answered', async (t) => {
    const { groupId, key, prefix } = await customer(node(0), { entityId: 'cust_revoked' })
    const lastSuccessMs = [0, 0, 0]
    const stop = keepCalling({ clients: 9, pauseMs: 5 }, async (client) => {
      if (await callAndNote(client, key)) lastSuccessMs[client % 3] = performance.now()
    })
    await until(() => lastSuccessMs.every((atMs) => atMs > 0))
    await manage(node(0), 'DELETE', `/v1/gateway/groups/${groupId}/api_keys/${prefix}`)
    const revokedMs = performance.now()
    await delay(2_000)
    await stop()
    const afterMs = lastSuccessMs.map((atMs) => Math.max(0, Math.round(atMs - revokedMs)))
    t.diagnostic(`last success of a revoked key on each node, after the revocation: ${afterMs.join(', ')} ms`)
    assert.ok(Math.max(...afterMs) <= 1_000)
  })

  test('lose no event and double none when PostgreSQL, Redis and nodes are taken away under load', async (t) => {
    const stop = keepCalling({ clients: 12, pauseMs: 30 }, (client) => callAndNote(client, load.key))
    /** How many responses completed while `during` went on. */
    const completedDuring = async (during: () => Promise<unknown>) => {
      const before = completed.size
      await during()
      return completed.size - before
    }
    const progress = async (responses: number) => {
      const enough = completed.size + responses
      await until(() => completed.size >= enough, { withinMs: 20_000 })
    }
    await progress(200)

    let withoutRedis = 0
    const withoutPostgres = await completedDuring(async () => {
      await postgres.stop()
      const backAtMs = performance.now() + 30_000
      await delay(2_000)
      await redis.kill()
      withoutRedis = await completedDuring(() => delay(10_000))
      await redis.start()
      await delay(1_000)
      await node(2).kill()
      await delay(backAtMs - performance.now())
    })
    await postgres.start()
    await startNode(2)
    await progress(200)
    await node(1).kill()
    await startNode(1)
    await progress(200)
    await stop()

    const recorded = await until(
      async () => {
        const events = await readEvents(node(0))
        return completed.isSubsetOf(new Set(events.map(({ requestId }) => requestId))) && events
      },
      { withinMs: 20_000, everyMs: 200 },
    )
    const ids = new Set(recorded.map(({ requestId }) => requestId))
    const delivered = () =>
      new Set(receiver.posts.flatMap(({ events }) => events.map(({ idempotencyKey }) => idempotencyKey)))
    await until(() => delivered().size >= recorded.length, { withinMs: 30_000, everyMs: 100 })
    t.diagnostic(
      `PostgreSQL away for 30 s (${withoutPostgres} responses meanwhile), Redis for 10 s of them (${withoutRedis}), ` +
        `two nodes killed: ${completed.size} responses seen complete, ${recorded.length} events, ` +
        `${completed.difference(ids).size} lost, ${recorded.length - ids.size} doubled, ${delivered().size} delivered`,
    )
    assert.ok(withoutRedis > 100, 'requests go on while neither engine is there')
    assert.equal(ids.size, recorded.length)
    assert.deepEqual(delivered(), new Set(recorded.map(({ idempotencyKey }) => idempotencyKey)))
    assert.deepEqual(
      recorded.map(({ sequence }) => sequence),
      recorded.map((_, index) => index + 1),
    )

    const expected = sumOf(recorded.filter(({ externalEntityId }) => externalEntityId === 'cust_42'))
    // What a killed node had reserved returns when its leases end, after 30 s.
    await until(
      async () => {
        const usages = await Promise.all(nodes.map((each) => usageToday(each, load.groupId)))
        return usages.every((usage) => isDeepStrictEqual(usage, expected))
      },
      { withinMs: 40_000, everyMs: 200 },
    )
    t.diagnostic(`the day's counters on every node equal the record: ${JSON.stringify(expected)}`)
    await using ledger = await openPostgresDatabase({ url: postgres.url(database) })
    assert.deepEqual(await Array.fromAsync(verifyLedger(ledger.queries)), [])
  })

  async function startNode(index: number): Promise<void> {
    nodes[index] = await startServed(join(folder, `node-${index}`), {
      TOLLGATE_DATABASE_URL: postgres.url(database),
      TOLLGATE_REDIS_URL: redis.url,
      TOLLGATE_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
    })
  }

  function node(index: number): ServedProcess {
    const found = nodes[index % 3]
    assert.ok(found)
    return found
  }

  /** One call over the node whose turn it is, every other one a stream; whether it completed. */
  async function callAndNote(index: number, key: string): Promise<boolean> {
    const requestId = await call(node(index), key, { stream: index % 2 === 0 })
    if (requestId !== null) completed.add(requestId)
    return requestId !== null
  }
})

/** Clients that call, pause and call again; returns what ends them. */
function keepCalling(
  { clients, pauseMs }: { clients: number; pauseMs: number },
  callOnce: (client: number) => Promise<unknown>,
): () => Promise<void> {
  let isOver = false
  const running = Array.from({ length: clients }, async (_, client) => {
    while (!isOver) {
      await callOnce(client)
      await delay(pauseMs)
    }
  })
  return async () => {
    isOver = true
    await Promise.all(running)
  }
}
