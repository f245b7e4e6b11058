import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { Bucket } from '../../src/limits/buckets.ts'
import { type CounterStore, CountersUnavailable, type DaySum, type Hold } from '../../src/limits/counter-store.ts'
import { redisCountersLibrary } from '../../src/limits/redis-connection.ts'
import { openTestRedisCounters, RedisTime } from '../support/counter-backends.ts'
import { bucket, newOwner } from '../support/limit-buckets.ts'
import { type RedisServers, startRedis, withoutRedis } from '../support/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { until } from '../support/until.ts'

const hierarchy = 'root'
const slug = 'lab/model'

describe('counters that several nodes share in Redis', withoutRedis, () => {
  let redis: RedisServers
  before(async () => {
    redis = await startRedis()
  })
  after(() => redis[Symbol.asyncDispose]())
  beforeEach(async () => {
    await redis.send(['FLUSHALL'])
  })

  test('admit exactly the threshold together, however many ask at once', async () => {
    await using one = await openTestRedisCounters({ redis })
    await using two = await openTestRedisCounters({ redis })
    await using three = await openTestRedisCounters({ redis })
    const buckets = [bucket({ unit: 'MINUTE', threshold: 90 })]
    const takes = Array.from({ length: 100 }, () =>
      [one, two, three].map((counters) => counters.take({ hierarchy, buckets, tokens: 1 })),
    )
    const all = await Promise.all(takes.flat())
    assert.equal(all.filter(({ taken }) => taken).length, 90)
  })

  test('leave no key in Redis that stays for ever', async () => {
    await using counters = await openTestRedisCounters({ redis, leaseMs: 50 })
    const buckets = [bucket({ unit: 'MINUTE', threshold: 9 }), ...dayBuckets(newOwner())]
    await counters.settle(await admit(counters, buckets), 3)
    await admit(counters, buckets)
    await until(async () => (await levels(counters, buckets))[0] === 1)
    await admit(counters, buckets)
    const [keys] = (await redis.send(['KEYS', '*'])) as string[][]
    assert.equal(keys?.length, 6)
    for (const key of keys ?? []) {
      const [lastsMs] = await redis.send(['PTTL', key])
      assert.ok(Number(lastsMs) > 0, `${key} stays`)
    }
  })

  test('count nothing in a window that has nothing in it, however badly what was in it adds up', async () => {
    const time = new RedisTime(redis)
    await using counters = await openTestRedisCounters({ redis, library: time.library })
    const buckets = [bucket({ type: 'TOKEN', unit: 'SECOND', threshold: 100 })]
    await admit(counters, buckets, 60)
    const [keys] = (await redis.send(['KEYS', '*'])) as string[][]
    const drift = `local text = redis.call('GET', KEYS[1])
      if #text ~= 24 then return 0 end
      redis.call('SET', KEYS[1], struct.pack('<d', 1000) .. string.sub(text, 9))
      return 1`
    let drifted = 0
    for (const key of keys ?? []) {
      const [type] = await redis.send(['TYPE', key])
      if (type === 'string') drifted += Number((await redis.send(['EVAL', drift, '1', key]))[0])
    }
    assert.equal(drifted, 1)
    assert.equal((await counters.take({ hierarchy, buckets, tokens: 60 })).taken, false)
    await time.pass(1_050)
    await admit(counters, buckets, 60)
  })

  test('open no window and end no lease when the clock of Redis is set back, and go on with it', async () => {
    const time = new RedisTime(redis)
    await using counters = await openTestRedisCounters({ redis, library: time.library, leaseMs: 5_000 })
    const buckets = [bucket({ unit: 'SECOND', threshold: 1 }), bucket({ type: 'TOKEN', unit: 'DAY', threshold: 99 })]
    await counters.settle(await admit(counters, buckets, 10), 10)
    await time.pass(500)
    assert.deepEqual(await levels(counters, buckets), [1, 10])
    await time.jumpTo(time.nowMs - 3_600_000)
    assert.equal((await counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
    await time.pass(549)
    assert.equal((await counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
    await time.pass(1)
    await admit(counters, buckets)
    await time.pass(4_999)
    assert.deepEqual(await levels(counters, buckets.slice(1)), [11])
    await time.pass(1)
    assert.deepEqual(await levels(counters, buckets.slice(1)), [10])
  })

  test('count a day by the date of Redis, to the millisecond, and what ends later on the day of its admission', async () => {
    const time = new RedisTime(redis)
    await using counters = await openTestRedisCounters({ redis, library: time.library, leaseMs: 86_400_000 })
    const owner = newOwner()
    const buckets = [bucket({ owner, unit: 'DAY', threshold: 1 }), ...dayBuckets(owner).slice(1)]
    const hold = await admit(counters, buckets)
    const refused = await counters.take({ hierarchy, buckets, tokens: 1 })
    assert.ok(!refused.taken)
    assert.equal(refused.refused.retryAfterMs, 12 * 3_600_000)
    await time.pass(12 * 3_600_000 - 1)
    assert.equal((await counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
    await time.pass(1)
    await counters.settle(hold, 70)
    assert.deepEqual(await usage(counters, owner), null)
    await counters.settle(await admit(counters, buckets), 7)
    assert.equal((await usage(counters, owner))?.tokens, 7)
    await time.pass(-1)
    assert.equal((await usage(counters, owner))?.tokens, 70)
  })

  test('are the same for two versions of nodes, each with its own functions', async () => {
    await using old = await openTestRedisCounters({ redis })
    await using young = await openTestRedisCounters({ redis, library: `${redisCountersLibrary()}\n-- another version` })
    const buckets = [bucket({ unit: 'MINUTE', threshold: 2 })]
    await admit(old, buckets)
    await admit(young, buckets)
    assert.equal((await old.take({ hierarchy, buckets, tokens: 1 })).taken, false)
  })

  test('give back what a killed process held once its leases have ended', async () => {
    await using counters = await openTestRedisCounters({ redis, leaseMs: 1_000 })
    const buckets = [bucket({ type: 'TOKEN', unit: 'DAY', threshold: 100 }), bucket({ unit: 'MINUTE', threshold: 10 })]
    const holder = spawn(process.execPath, [join(import.meta.dirname, 'redis-holder.ts'), redis.url], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    holder.stdin.end(JSON.stringify({ hierarchy, buckets, tokens: 10, times: 10 }))
    await once(createInterface({ input: holder.stdout }), 'line')
    assert.deepEqual(await levels(counters, buckets), [100, 10])
    holder.kill('SIGKILL')
    const killedMs = performance.now()
    await until(async () => (await levels(counters, buckets)).every((used) => used === 0))
    assert.ok(performance.now() - killedMs < 2_000)
    await admit(counters, buckets, 100)
  })

  describe('when Redis is emptied', () => {
    test('count the day from what every node has settled and holds, whoever comes first', async () => {
      await using one = await openTestRedisCounters({ redis })
      await using other = await openTestRedisCounters({ redis })
      const owner = newOwner()
      const buckets = dayBuckets(owner)
      for (const counters of [one, one, other]) await counters.settle(await admit(counters, buckets, 10), 20)
      const held = await admit(one, buckets, 5)
      await redis.send(['FLUSHALL'])

      const late = await admit(other, buckets, 7)
      assert.deepEqual(await levels(one, buckets), [5, 72])
      await one.settle(held, 6)
      await other.release(late)
      await until(async () => (await usage(one, owner))?.requests === 4)
      assert.deepEqual(await usage(other, owner), { requests: 4, tokens: 66 })
    })

    test('keep windows closed for what is still in flight', async () => {
      await using counters = await openTestRedisCounters({ redis })
      const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 })]
      const held = await admit(counters, buckets, 80)
      await redis.send(['FLUSHALL'])
      assert.deepEqual(await levels(counters, buckets), [80])
      assert.equal((await counters.take({ hierarchy, buckets, tokens: 30 })).taken, false)
      await counters.settle(held, 10)
      assert.deepEqual(await levels(counters, buckets), [10])
    })

    test('keep windows closed for what was settled, as far as any node was told', async () => {
      await using one = await openTestRedisCounters({ redis })
      await using other = await openTestRedisCounters({ redis })
      const buckets = [
        bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }),
        bucket({ unit: 'MINUTE', threshold: 9 }),
      ]
      for (const counters of [one, one, other]) await counters.settle(await admit(counters, buckets, 30), 20)
      await one.release(await admit(one, buckets, 5))
      // What was settled is told in the background, and known to a node once it has asked after that.
      for (const node of [one, other]) await until(async () => (await levels(node, buckets))[0] === 60)
      await redis.send(['FLUSHALL'])
      assert.deepEqual(await levels(other, buckets), [60, 3])
      await admit(one, buckets, 40)
      assert.equal((await other.take({ hierarchy, buckets, tokens: 1 })).taken, false)
    })

    test('count what the ledger has of nodes that are gone, once, also when it answers later', async () => {
      const owner = newOwner()
      const buckets = dayBuckets(owner)
      let recorded: DaySum[] | null = null
      await using counters = await openTestRedisCounters({ redis, recordedUsage: async () => recorded })
      await counters.settle(await admit(counters, buckets, 1), 1)
      assert.deepEqual(await usage(counters, owner), { requests: 1, tokens: 1 })

      recorded = [
        { hierarchy, owner, slug, node: 'gone', requests: 3, tokens: 30 },
        { hierarchy, owner, slug, node: counters.node, requests: 1, tokens: 1 },
      ]
      await until(async () => (await levels(counters, buckets))[0] === 4)
      assert.deepEqual(await usage(counters, owner), { requests: 4, tokens: 31 })
      await redis.send(['FLUSHALL'])
      assert.deepEqual(await levels(counters, buckets), [4, 31])
    })

    test('have the day whole when Redis was killed and restarted under load', async () => {
      await using one = await openTestRedisCounters({ redis, deadlineMs: 300 })
      await using other = await openTestRedisCounters({ redis, deadlineMs: 300 })
      const owner = newOwner()
      const buckets = dayBuckets(owner)
      let settled = 0
      let isOver = false
      const load = [one, other, one, other].map(async (counters) => {
        while (!isOver) {
          const taken = await counters.take({ hierarchy, buckets, tokens: 5 }).catch(() => null)
          if (taken === null || !taken.taken) {
            await new Promise((resolve) => setImmediate(resolve))
            continue
          }
          await counters.settle(taken.hold, 3)
          settled += 1
        }
      })
      for (let restarts = 0; restarts < 2; restarts += 1) {
        const before = settled
        await until(() => settled > before + 200)
        await redis.kill()
        await redis.start()
      }
      const before = settled
      await until(() => settled > before + 200)
      isOver = true
      await Promise.all(load)
      for (const counters of [one, other]) {
        await until(async () => (await usage(counters, owner))?.tokens === settled * 3, { withinMs: 5_000 })
      }
    })
  })

  test('double nothing when answers are lost and what was said is said again', async () => {
    await using proxy = await startTcpProxy(Number(redis.ports[0]))
    await using counters = await openTestRedisCounters({
      redis: { url: `redis://127.0.0.1:${proxy.port}` },
      deadlineMs: 100,
    })
    await using witness = await openTestRedisCounters({ redis })
    const owner = newOwner()
    const window = bucket({ owner, type: 'TOKEN', unit: 'MINUTE', threshold: 1_000 })
    const buckets = [window, ...dayBuckets(owner)]
    const holds = [await admit(counters, buckets, 10), await admit(counters, buckets, 10)]
    const released = await admit(counters, buckets, 10)

    proxy.loseAnswers()
    for (const hold of holds) await counters.settle(hold, 40)
    await counters.release(released)
    await until(async () => (await levels(witness, buckets))[0] === 80)
    proxy.pass()
    const next = await until(() => counters.take({ hierarchy, buckets, tokens: 0 }).catch(() => null))
    assert.ok(next.taken)
    await counters.settle(next.hold, 5)
    await counters[Symbol.asyncDispose]()
    assert.deepEqual(await levels(witness, buckets), [85, 3, 85])
  })

  test('are told again what a Redis that was full did not take', async () => {
    await using counters = await openTestRedisCounters({ redis })
    const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 1_000 }), ...dayBuckets(newOwner())]
    const hold = await admit(counters, buckets, 10)
    await redis.send(['CONFIG', 'SET', 'maxmemory', '1'])
    await counters.settle(hold, 25)
    await assert.rejects(counters.take({ hierarchy, buckets, tokens: 1 }), CountersUnavailable)
    await redis.send(['CONFIG', 'SET', 'maxmemory', '0'])
    await until(async () => (await levels(counters, buckets))[0] === 25)
    assert.deepEqual(await levels(counters, buckets), [25, 1, 25])
  })

  test('are told what they could not hear, once they can', async () => {
    await using proxy = await startTcpProxy(Number(redis.ports[0]))
    await using counters = await openTestRedisCounters({
      redis: { url: `redis://127.0.0.1:${proxy.port}` },
      deadlineMs: 100,
    })
    await using witness = await openTestRedisCounters({ redis })
    const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 1_000 }), ...dayBuckets(newOwner())]
    const hold = await admit(counters, buckets, 10)
    proxy.cut()
    await counters.settle(hold, 25)
    assert.deepEqual(await levels(witness, buckets), [10, 1, 10])
    proxy.pass()
    await until(async () => (await levels(witness, buckets))[0] === 25)
    assert.deepEqual(await levels(witness, buckets), [25, 1, 25])
  })
})

function dayBuckets(owner: string): Bucket[] {
  return (['REQUEST', 'TOKEN'] as const).map((type) => bucket({ owner, type, unit: 'DAY', threshold: null }))
}

async function admit(counters: CounterStore, buckets: readonly Bucket[], tokens = 1): Promise<Hold> {
  const taken = await counters.take({ hierarchy, buckets, tokens })
  assert.ok(taken.taken, 'must be admitted')
  return taken.hold
}

/** What is used of each bucket, read by a request that is refused, and so takes nothing. */
async function levels(counters: CounterStore, buckets: readonly Bucket[]): Promise<number[]> {
  const barrier = bucket({ threshold: 0 })
  const refused = await counters.take({ hierarchy, buckets: [...buckets, barrier], tokens: 0 })
  return refused.levels.slice(0, -1).map(({ used }) => used)
}

async function usage(counters: CounterStore, owner: string) {
  const found = (await counters.dayUsage({ hierarchy, owner, slugs: [slug] })).get(slug)
  return found === undefined ? null : { requests: found.requests, tokens: found.tokens }
}
