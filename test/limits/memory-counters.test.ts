import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Bucket } from '../../src/limits/buckets.ts'
import type { CounterStore, Hold } from '../../src/limits/counter-store.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { bucket, newOwner } from '../support/limit-buckets.ts'
import { ManualClock } from '../support/manual-clock.ts'

const hierarchy = 'root'

test('a daily limit is whole again at midnight UTC, to the millisecond, and not before', async () => {
  const clock = new ManualClock('2026-03-01T22:15:30.250Z')
  const counters = openMemoryCounters({ clock, leaseMs: 86_400_000 })
  const buckets = [bucket({ unit: 'DAY', threshold: 1 })]
  await admit(counters, buckets)

  const refused = await counters.take({ hierarchy, buckets, tokens: 1 })
  assert.ok(!refused.taken)
  assert.equal(refused.refused.retryAfterMs, Date.parse('2026-03-02T00:00:00Z') - clock.now())
  clock.advance((refused.refused.retryAfterMs ?? 0) - 1)
  assert.equal((await counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
  clock.advance(1)
  await admit(counters, buckets)
})

test('what a request used counts on the day of its admission, also when it ends on the next', async () => {
  const clock = new ManualClock('2026-03-01T23:59:59.000Z')
  const counters = openMemoryCounters({ clock })
  const owner = newOwner()
  const buckets = dayBuckets(owner)
  const hold = await admit(counters, buckets, 10)
  clock.advance(2_000)
  await counters.settle(hold, 70)
  assert.deepEqual(await usage(counters, owner), null)

  clock.jumpTo('2026-03-01T12:00:00Z')
  assert.deepEqual(await usage(counters, owner), {
    requests: 1,
    tokens: 70,
    resetAtMs: Date.parse('2026-03-02T00:00:00Z'),
  })
  assert.equal(hold.admittedAtMs, Date.parse('2026-03-01T23:59:59Z'))
})

test('a wall clock that jumps over midnight and is set right finds its day as it left it', async () => {
  const clock = new ManualClock('2026-03-01T12:00:00Z')
  const counters = openMemoryCounters({ clock })
  const owner = newOwner()
  await counters.settle(await admit(counters, dayBuckets(owner), 10), 10)
  for (const wrong of ['2026-03-02T12:00:00Z', '2026-02-28T12:00:00Z']) {
    clock.jumpTo(wrong)
    await counters.settle(await admit(counters, dayBuckets(owner), 1), 1)
    assert.deepEqual((await usage(counters, owner))?.tokens, 1)
    clock.jumpTo('2026-03-01T12:00:00Z')
    assert.deepEqual((await usage(counters, owner))?.tokens, 10)
  }
})

test('a wall clock that jumps moves no rate limit and ends no lease', async () => {
  const clock = new ManualClock()
  const counters = openMemoryCounters({ clock, leaseMs: 5_000 })
  const buckets = [bucket({ unit: 'MINUTE', threshold: 1 })]
  await admit(counters, buckets)
  for (const wrong of ['2031-01-01T00:00:00Z', '1999-12-31T23:59:59Z', '2026-01-15T12:00:30Z']) {
    clock.jumpTo(wrong)
    assert.equal((await counters.take({ hierarchy, buckets, tokens: 1 })).taken, false)
  }
  clock.advance(5_000)
  await admit(counters, buckets)
})

test('a settlement more than a day after the end of its lease is forgotten, and takes no memory until then', async () => {
  const clock = new ManualClock()
  const counters = openMemoryCounters({ clock, leaseMs: 1_000 })
  const owner = newOwner()
  const kept = await admit(counters, dayBuckets(owner), 5)
  clock.advance(1_000 + 86_400_000)
  assert.equal(await usage(counters, owner), null)
  clock.advance(1)
  await counters.settle(kept, 5)
  assert.equal(await usage(counters, owner), null)
})

test('memory holds the counters of the traffic of two minutes and of three days, and no more', async () => {
  setFlagsFromString('--expose-gc')
  const collectGarbage: () => void = runInNewContext('gc')
  const clock = new ManualClock()
  const counters = openMemoryCounters({ clock })
  const heapAfter = async ({ rounds, passMs }: { rounds: number; passMs: number }) => {
    for (let round = 0; round < rounds; round += 1) {
      for (let i = 0; i < 2_000; i += 1) {
        const owner = newOwner()
        const buckets = [bucket({ owner, unit: 'MINUTE', threshold: 9 }), ...dayBuckets(owner)]
        await counters.settle(await admit(counters, buckets, 1), 1)
      }
      clock.advance(passMs)
    }
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  // A MINUTE's window is more than 500 bytes; a round that stayed would show as at least 1 MB.
  const warmBytes = await heapAfter({ rounds: 6, passMs: 86_400_000 })
  const growthBytes = (await heapAfter({ rounds: 12, passMs: 86_400_000 })) - warmBytes
  assert.ok(growthBytes < 3_000_000, `twelve days more took ${growthBytes} bytes`)
})

function dayBuckets(owner: string): Bucket[] {
  return (['REQUEST', 'TOKEN'] as const).map((type) => bucket({ owner, type, unit: 'DAY', threshold: null }))
}

async function admit(counters: CounterStore, buckets: readonly Bucket[], tokens = 1): Promise<Hold> {
  const taken = await counters.take({ hierarchy, buckets, tokens })
  assert.ok(taken.taken, 'must be admitted')
  return taken.hold
}

async function usage(counters: CounterStore, owner: string) {
  return (await counters.dayUsage({ hierarchy, owner, slugs: ['lab/model'] })).get('lab/model') ?? null
}
