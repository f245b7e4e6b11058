import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { systemClock, utcDay } from '../../src/clock.ts'
import type { Bucket } from '../../src/limits/buckets.ts'
import { type CounterStore, CountersUnavailable, type DaySum, type Hold } from '../../src/limits/counter-store.ts'
import { type FallbackMode, openFallbackCounters } from '../../src/limits/fallback-counters.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { openLog } from '../../src/log.ts'
import { openMetrics } from '../../src/metrics.ts'
import { openTestRedisCounters } from '../support/counter-backends.ts'
import { bucket, newOwner } from '../support/limit-buckets.ts'
import { type RedisServers, startRedis, withoutRedis } from '../support/redis.ts'
import { until } from '../support/until.ts'

const hierarchy = 'root'
const slug = 'lab/model'

describe('while Redis is away', withoutRedis, () => {
  test('a node enforces alone, from what is known of the day, and shares again by itself', async () => {
    await using redis = await startRedis()
    const recorded: DaySum[] = []
    await using one = await openNode(redis, { recorded, deadlineMs: 200 })
    await using other = await openNode(redis, { recorded, deadlineMs: 200 })
    const owner = newOwner()
    const buckets = [bucket({ owner, unit: 'DAY', threshold: 10 }), tokensOfDay(owner)]
    for (const { counters } of [one, one, other]) await counters.settle(await admit(counters, buckets, 5), 7)
    const heldBefore = await admit(one.counters, buckets, 5)
    recorded.push({ hierarchy, owner, slug, node: 'another', requests: 3, tokens: 21 })
    assert.equal(await one.healthy(), 1)

    await redis.kill()
    await one.counters.settle(heldBefore, 9)
    const alone = await admit(one.counters, buckets, 5)
    assert.equal(await one.healthy(), 0)
    // The ledger's 3, and what this node has settled or holds itself: 3 and 1.
    assert.deepEqual(await levels(one.counters, buckets), [7, 23 + 5 + 21])
    for (let left = 0; left < 3; left += 1) await one.counters.settle(await admit(one.counters, buckets), 1)
    assert.equal((await one.counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
    assert.deepEqual(await usage(one.counters, owner), { requests: 10, tokens: 47 })

    await redis.start()
    await until(async () => (await one.healthy()) === 1)
    await one.counters.settle(alone, 4)
    const whole = { requests: 11, tokens: 23 + 3 + 4 + 21 + 7 }
    for (const { counters } of [one, other]) {
      await until(async () => isDeepStrictEqual(await usage(counters, owner), whole))
    }
    assert.equal((await other.counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
  })

  test('what counted in a window when Redis went away still counts for a node that is alone', async () => {
    await using redis = await startRedis()
    await using one = await openNode(redis)
    await using other = await openNode(redis)
    const buckets = [
      bucket({ unit: 'MINUTE', threshold: 10 }),
      bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 99 }),
    ]
    for (const { counters } of [one, one, one, other]) await admit(counters, buckets, 20)
    await redis.kill()
    assert.deepEqual(await levels(other.counters, buckets), [4, 80])
    await admit(other.counters, buckets, 19)
    assert.equal((await other.counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
  })

  test('a node that rejects admits nothing, and admits again when Redis is back', async () => {
    await using redis = await startRedis()
    await using node = await openNode(redis, { mode: 'reject' })
    const buckets = [bucket({ unit: 'MINUTE', threshold: 10 })]
    await admit(node.counters, buckets)
    await redis.kill()
    for (let tries = 0; tries < 3; tries += 1) {
      await assert.rejects(node.counters.take({ hierarchy, buckets, tokens: 1 }), CountersUnavailable)
    }
    await admit(node.counters, [])
    await redis.start()
    await until(() => node.counters.take({ hierarchy, buckets, tokens: 1 }).catch(() => null))
  })

  test('nobody but the first waits for a Redis that hangs', async () => {
    await using redis = await startRedis()
    await using node = await openNode(redis, { deadlineMs: 400 })
    const buckets = [bucket({ unit: 'MINUTE', threshold: 1_000 })]
    await admit(node.counters, buckets)
    redis.freeze()
    try {
      await admit(node.counters, buckets)
      const startedMs = performance.now()
      for (let calls = 0; calls < 20; calls += 1) await admit(node.counters, buckets)
      assert.ok(performance.now() - startedMs < 400, 'twenty calls take less than one deadline')
    } finally {
      redis.thaw()
    }
    await until(async () => (await node.healthy()) === 1)
  })

  test('a server that has become a replica is left for whoever stands at its address now', async () => {
    await using redis = await startRedis()
    await using node = await openNode(redis, { mode: 'reject' })
    const buckets = [bucket({ unit: 'MINUTE', threshold: 1_000 })]
    await admit(node.counters, buckets)
    const connections = async () =>
      Number(/total_connections_received:(\d+)/.exec(String(await redis.send(['INFO', 'stats'])))?.[1])
    const before = await connections()
    await redis.send(['REPLICAOF', '127.0.0.1', '1'])
    await assert.rejects(node.counters.take({ hierarchy, buckets, tokens: 1 }), CountersUnavailable)
    await redis.send(['REPLICAOF', 'NO', 'ONE'])
    await until(() => node.counters.take({ hierarchy, buckets, tokens: 1 }).catch(() => null))
    // Two commands and the last question came over connections of their own, and so did the node.
    assert.ok((await connections()) - before >= 4)
  })

  test('a node that starts without it serves, and shares once it is there', async () => {
    await using redis = await startRedis()
    await redis.kill()
    const recorded: DaySum[] = []
    await using node = await openNode(redis, { recorded })
    const owner = newOwner()
    const buckets = [bucket({ owner, unit: 'DAY', threshold: null }), tokensOfDay(owner)]
    const today = utcDay(systemClock.now())
    const sum = { hierarchy, owner, slug, node: 'before', requests: 2, tokens: 20 }
    recorded.push(sum)
    await node.counters.seedDay(today, [sum])
    await node.counters.settle(await admit(node.counters, buckets), 5)
    assert.deepEqual(await usage(node.counters, owner), { requests: 3, tokens: 25 })
    await redis.start()
    await until(async () => (await node.healthy()) === 1)
    await using witness = await openNode(redis)
    await until(async () => (await usage(witness.counters, owner))?.tokens === 25)
  })
})

interface Node extends AsyncDisposable {
  counters: CounterStore
  /** The gauge of `/metrics`. */
  healthy(): Promise<number | undefined>
}

async function openNode(
  redis: RedisServers,
  {
    recorded = [],
    mode = 'local',
    deadlineMs = 300,
  }: { recorded?: readonly DaySum[]; mode?: FallbackMode; deadlineMs?: number } = {},
): Promise<Node> {
  await using opened = new AsyncDisposableStack()
  const recordedUsage = async () => recorded
  const shared = opened.use(await openTestRedisCounters({ redis, deadlineMs, recordedUsage }))
  const metrics = openMetrics()
  const clock = systemClock
  const counters = opened.use(
    openFallbackCounters({
      redis: shared,
      memory: openMemoryCounters({ clock }),
      mode,
      recordedUsage,
      recordedDay: async function* () {
        yield recorded
      },
      clock,
      log: openLog({ level: 'silent' }),
      metrics,
    }),
  )
  const parts = opened.move()
  return {
    counters,
    async healthy() {
      const gauge = metrics.registry.getSingleMetric('tollgate_counter_store_healthy')
      return (await gauge?.get())?.values[0]?.value
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function tokensOfDay(owner: string): Bucket {
  return bucket({ owner, type: 'TOKEN', unit: 'DAY', threshold: null })
}

async function admit(counters: CounterStore, buckets: readonly Bucket[], tokens = 1): Promise<Hold> {
  const taken = await counters.take({ hierarchy, buckets, tokens })
  assert.ok(taken.taken, 'must be admitted')
  return taken.hold
}

async function levels(counters: CounterStore, buckets: readonly Bucket[]): Promise<number[]> {
  const refused = await counters.take({ hierarchy, buckets: [...buckets, bucket({ threshold: 0 })], tokens: 0 })
  return refused.levels.slice(0, -1).map(({ used }) => used)
}

async function usage(counters: CounterStore, owner: string) {
  const found = (await counters.dayUsage({ hierarchy, owner, slugs: [slug] })).get(slug)
  return found === undefined ? null : { requests: found.requests, tokens: found.tokens }
}
