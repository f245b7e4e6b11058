import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Bucket } from '../../src/limits/buckets.ts'
import {
  type Admission,
  describeRefusal,
  type Limiter,
  openLimiter,
  type Reservation,
} from '../../src/limits/limiter.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { bucket } from '../support/limit-buckets.ts'
import { ManualClock } from '../support/manual-clock.ts'

test('leaving the scope of a reservation gives back what was not settled', async () => {
  const { limiter } = open()
  const buckets = [bucket({ threshold: 1 }), bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 })]
  {
    await using _unserved = await admitted(limiter, buckets, 100)
    assert.equal((await limiter.reserve(set(buckets), { tokens: 0 })).admitted, false)
  }
  {
    await using served = await admitted(limiter, buckets, 100)
    await served.settle({ tokens: 30 })
  }
  const next = await limiter.reserve(set(buckets), { tokens: 1 })
  assert.deepEqual(
    [next.admitted, next.rateLimits.requests?.remaining, next.rateLimits.tokens?.remaining],
    [false, 0, 70],
  )
})

test('a request in flight keeps its reservation for as long as it streams', async () => {
  const { limiter, clock } = open({ leaseMs: 30_000 })
  const buckets = [bucket({ type: 'TOKEN', unit: 'DAY', threshold: 100 })]
  const streaming = await admitted(limiter, buckets, 100)
  for (let minute = 0; minute < 10; minute += 1) {
    clock.advance(60_000)
    assert.equal((await limiter.reserve(set(buckets), { tokens: 1 })).admitted, false)
  }
  await streaming.settle({ tokens: 60 })
  await admitted(limiter, buckets, 40)
})

test('what a limiter held returns within the lease once it has stopped', async () => {
  const clock = new ManualClock()
  const counters = openMemoryCounters({ clock, leaseMs: 30_000 })
  const buckets = [bucket({ type: 'TOKEN', unit: 'DAY', threshold: 100 })]
  {
    using dying = openLimiter({ counters, clock })
    await admitted(dying, buckets, 100)
    clock.advance(20_000)
  }
  using limiter = openLimiter({ counters, clock })
  clock.advance(29_999)
  assert.equal((await limiter.reserve(set(buckets), { tokens: 100 })).admitted, false)
  clock.advance(1)
  await admitted(limiter, buckets, 100)
})

test('the headers show the limit that has least left, and of equals the smaller one', async () => {
  const { limiter } = open()
  const wide = bucket({ unit: 'MINUTE', threshold: 100 })
  const narrow = bucket({ unit: 'SECOND', threshold: 10 })
  const first = await limiter.reserve(set([wide, narrow]), { tokens: 0 })
  assert.deepEqual(first.rateLimits, { requests: { limit: 10, remaining: 9, resetMs: 1_050 }, tokens: null })

  const fuller = bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 1_000 })
  await admitted(limiter, [fuller], 500)
  const equal = bucket({ type: 'TOKEN', unit: 'SECOND', threshold: 510 })
  const day = bucket({ type: 'TOKEN', unit: 'DAY', threshold: 20 })
  const second = await limiter.reserve(set([fuller, equal, day]), { tokens: 10 })
  assert.deepEqual(second.rateLimits.tokens, { limit: 1_000, remaining: 490, resetMs: 61_000 })
  await admitted(limiter, [equal], 10)
  for (const buckets of [
    [fuller, equal],
    [equal, fuller],
  ]) {
    const { rateLimits } = await limiter.reserve(set(buckets), { tokens: 0 })
    assert.deepEqual(rateLimits.tokens, { limit: 510, remaining: 490, resetMs: 1_050 })
  }
})

test('a limit that shrank below its count has nothing left, and not less', async () => {
  const { limiter } = open()
  const wide = bucket({ threshold: 9 })
  for (let i = 0; i < 5; i += 1) await admitted(limiter, [wide], 0)
  const refused = await limiter.reserve(set([{ ...wide, threshold: 3 }]), { tokens: 0 })
  assert.deepEqual([refused.admitted, refused.rateLimits.requests?.remaining], [false, 0])
})

test('a refusal names the limit that refused, to the program and to the customer', async () => {
  const { limiter, clock } = open()
  const buckets = [bucket({ owner: 'group-of-acme', unit: 'MINUTE', threshold: 1, scope: 'parent' })]
  await admitted(limiter, buckets, 0)
  clock.advance(57_750)
  const refusal = refused(await limiter.reserve(set(buckets), { tokens: 0 }))
  const { rateLimits: _rateLimits, ...limit } = refusal
  assert.deepEqual(limit, {
    admitted: false,
    slug: 'lab/model',
    limit: 'rate',
    type: 'REQUEST',
    unit: 'MINUTE',
    threshold: 1,
    scope: 'parent',
    retryAfterMs: 3_250,
    neverFits: false,
  })
  assert.equal(describeRefusal(refusal), 'Rate limit reached for lab/model: 1 request per minute. Try again in 3.3 s.')
})

test('the sentence of a refusal says what the customer can do about it', async () => {
  const { limiter } = open()
  const sentence = async (limit: Bucket, tokens: number) => {
    await limiter.reserve(set([limit]), { tokens: 1 })
    return describeRefusal(refused(await limiter.reserve(set([limit]), { tokens })))
  }
  assert.equal(
    await sentence(bucket({ type: 'TOKEN', unit: 'DAY', threshold: 500 }), 500),
    'Usage limit reached for lab/model: 500 tokens per day. Try again after midnight UTC.',
  )
  assert.equal(
    await sentence(bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 500 }), 501),
    'Rate limit reached for lab/model: 500 tokens per minute. This request alone is larger than the limit.',
  )
  assert.equal(
    await sentence(bucket({ unit: 'SECOND', threshold: 0 }), 1),
    'Rate limit reached for lab/model: 0 requests per second. This limit admits nothing.',
  )
})

test('a request that never fits is told so, with a pause of the limit’s unit', async () => {
  const { limiter } = open()
  for (const [unit, pauseMs] of [
    ['SECOND', 1_000],
    ['MINUTE', 60_000],
    ['DAY', 86_400_000],
  ] as const) {
    const { neverFits, retryAfterMs } = refused(
      await limiter.reserve(set([bucket({ type: 'TOKEN', unit, threshold: 10 })]), { tokens: 11 }),
    )
    assert.deepEqual([neverFits, retryAfterMs], [true, pauseMs])
  }
})

test('a reservation knows the time of its admission on the counter store’s clock', async () => {
  const { limiter, clock } = open()
  const reservation = await admitted(limiter, [bucket({ threshold: 1 })], 0)
  const admittedAtMs = clock.now()
  clock.advance(500)
  assert.equal(reservation.admittedAtMs, admittedAtMs)
})

function open({ leaseMs = 30_000 } = {}) {
  const clock = new ManualClock()
  return { clock, limiter: openLimiter({ counters: openMemoryCounters({ clock, leaseMs }), clock }) }
}

function set(buckets: readonly Bucket[]) {
  return { hierarchy: 'root', buckets }
}

async function admitted(limiter: Limiter, buckets: readonly Bucket[], tokens: number): Promise<Reservation> {
  const admission = await limiter.reserve(set(buckets), { tokens })
  assert.ok(admission.admitted, 'must be admitted')
  return admission.reservation
}

function refused(admission: Admission) {
  assert.ok(!admission.admitted, 'must be refused')
  return admission
}
