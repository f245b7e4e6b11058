import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Bucket } from '../../src/limits/buckets.ts'
import type { CounterStore, Hold, Taken } from '../../src/limits/counter-store.ts'
import { requestTokensMax } from '../../src/token-bounds.ts'
import type { CounterBackend, RunningBackend } from '../support/counter-backends.ts'
import { bucket, newOwner } from '../support/limit-buckets.ts'

const leaseMs = 400
const hierarchy = 'root'

/** What every counter store promises, whatever it is made of. */
export function counterStoreSuite(backend: CounterBackend): void {
  describe(`counters in ${backend.name}`, backend.tests, () => {
    let running: RunningBackend
    before(async () => {
      running = await backend.start()
    })
    after(() => running[Symbol.asyncDispose]())

    test('a request takes 1 from each request bucket and its tokens from each token bucket', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = [
        bucket({ type: 'REQUEST', unit: 'SECOND', threshold: 5 }),
        bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 500 }),
        bucket({ type: 'REQUEST', unit: 'DAY', threshold: 50 }),
        bucket({ type: 'TOKEN', unit: 'DAY', threshold: null }),
      ]
      const taken = await counters.take({ hierarchy, buckets, tokens: 120 })
      assert.equal(taken.taken, true)
      assert.deepEqual(used(taken), [1, 120, 1, 120])
    })

    test('a refused request takes nothing from any bucket', async () => {
      const { counters } = await running.open({ leaseMs })
      const roomy = bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 500 })
      const full = bucket({ type: 'TOKEN', unit: 'SECOND', threshold: 100 })
      const day = bucket({ type: 'REQUEST', unit: 'DAY', threshold: null })
      const buckets = [roomy, full, day]
      await admit(counters, buckets, 80)

      const refused = await counters.take({ hierarchy, buckets, tokens: 30 })
      assert.equal(refused.taken, false)
      assert.deepEqual(used(refused), [80, 80, 1])
      assert.deepEqual(await levels(counters, buckets), [80, 80, 1])
    })

    test('as many requests at once as there may be are admitted, and no more', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = [
        bucket({ threshold: 50 }),
        bucket({ unit: 'MINUTE', threshold: 7 }),
        bucket({ unit: 'DAY', threshold: 20 }),
      ]
      const all = await Promise.all(Array.from({ length: 40 }, () => counters.take({ hierarchy, buckets, tokens: 1 })))
      assert.equal(all.filter(({ taken }) => taken).length, 7)
    })

    test('a refused request is admitted after the wait that it was told', async () => {
      const { counters, pass } = await running.open({ leaseMs: 60_000 })
      const buckets = [bucket({ threshold: 2 })]
      await admit(counters, buckets)
      await pass(300)
      await admit(counters, buckets)

      const retryAfterMs = await waitFor(counters, buckets)
      assert.ok(retryAfterMs !== null && retryAfterMs > 600 && retryAfterMs <= 750, `waits ${retryAfterMs} ms`)
      await pass(retryAfterMs)
      await admit(counters, buckets)
      assert.notEqual(await waitFor(counters, buckets), 0)
    })

    test('a threshold of 0 admits nothing, ever, not even a request for no tokens', async () => {
      const { counters } = await running.open({ leaseMs })
      for (const type of ['REQUEST', 'TOKEN'] as const) {
        for (const unit of ['SECOND', 'MINUTE', 'DAY'] as const) {
          assert.equal(await waitFor(counters, [bucket({ type, unit, threshold: 0 })], 0), null)
        }
      }
    })

    test('a request fits a token limit to the last token, and one token more never fits', async () => {
      const { counters } = await running.open({ leaseMs })
      for (const unit of ['SECOND', 'MINUTE', 'DAY'] as const) {
        const buckets = [bucket({ type: 'TOKEN', unit, threshold: 100 })]
        assert.equal(await waitFor(counters, buckets, 101), null)
        await admit(counters, buckets, 100)
        assert.ok(Number(await waitFor(counters, buckets, 1)) > 0)
      }
    })

    test('a bucket without a threshold counts and refuses nobody', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = [bucket({ type: 'TOKEN', unit: 'DAY', threshold: null })]
      for (let i = 0; i < 25; i += 1) await admit(counters, buckets, requestTokensMax)
      assert.deepEqual(await levels(counters, buckets), [25 * requestTokensMax])
    })

    test('reservations as large as they may be are counted to the token, and so given back when their leases end', async () => {
      const { counters, pass } = await running.open({ leaseMs: 30_000 })
      const buckets = [
        bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: Number.MAX_SAFE_INTEGER }),
        bucket({ type: 'TOKEN', unit: 'DAY', threshold: null }),
      ]
      await counters.settle(await admit(counters, buckets, 7), 7)
      for (let i = 0; i < 50; i += 1) await admit(counters, buckets, requestTokensMax - i)
      const reserved = 50 * requestTokensMax - 1_225
      assert.deepEqual(await levels(counters, buckets), [reserved + 7, reserved + 7])
      await pass(30_001)
      // Whoever asks gives back what has ended, a bounded number at a time; other tests have left some, too.
      await levels(counters, buckets)
      assert.deepEqual(await levels(counters, buckets), [7, 7])
    })

    test('a threshold that changes meets the count as it stands', async () => {
      const { counters } = await running.open({ leaseMs })
      const five = bucket({ threshold: 5 })
      for (let i = 0; i < 3; i += 1) await admit(counters, [five])
      assert.notEqual(await waitFor(counters, [{ ...five, threshold: 3 }]), 0)
      await admit(counters, [{ ...five, threshold: 4 }])
    })

    test('of all limits that a request does not fit, the one with the longest wait is named', async () => {
      const { counters } = await running.open({ leaseMs })
      const second = bucket({ unit: 'SECOND', threshold: 1 })
      const minute = bucket({ unit: 'MINUTE', threshold: 1 })
      const never = bucket({ type: 'TOKEN', unit: 'SECOND', threshold: 10 })
      await admit(counters, [second, minute])

      assert.equal(await refusing(counters, [minute, second], 1), minute.key)
      assert.equal(await refusing(counters, [second, minute], 1), minute.key)
      assert.equal(await refusing(counters, [second, never, minute], 11), never.key)
    })

    test('settling puts the real figure in the place of the reservation, be it less or more', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = [
        bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }),
        bucket({ type: 'REQUEST', unit: 'MINUTE', threshold: 100 }),
        bucket({ type: 'TOKEN', unit: 'DAY', threshold: 100 }),
      ]
      const less = await admit(counters, buckets, 90)
      await counters.settle(less, 40)
      assert.deepEqual(await levels(counters, buckets), [40, 1, 40])

      const more = await admit(counters, buckets, 10)
      await counters.settle(more, 200)
      assert.deepEqual(await levels(counters, buckets), [240, 2, 240])
    })

    test('tokens count at the time of admission, whenever they are settled', async () => {
      const { counters, pass } = await running.open({ leaseMs: 60_000 })
      const buckets = [bucket({ type: 'TOKEN', unit: 'SECOND', threshold: 100 })]
      const first = await admit(counters, buckets, 10)
      await pass(800)
      await counters.settle(first, 100)
      assert.notEqual(await waitFor(counters, buckets, 1), 0)
      await pass(260)
      const second = await admit(counters, buckets, 100)
      await pass(1_060)
      await counters.settle(second, 100)
      await admit(counters, buckets, 100)
    })

    test('releasing gives everything back, the request included', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = roomForOne()
      await counters.release(await admit(counters, buckets, 10))
      assert.deepEqual(await levels(counters, buckets), [0, 0, 0, 0])
      await admit(counters, buckets, 10)
    })

    test('who is abandoned counts in rolling windows, and not towards a day', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = roomForOne()
      const abandoned = await admit(counters, buckets, 10)
      await counters.abandon(abandoned, 3)
      await counters.settle(abandoned, 5)
      await counters.release(abandoned)
      await counters.abandon(abandoned, 7)
      assert.deepEqual(await levels(counters, buckets), [1, 3, 0, 0])
    })

    test('the first of settle and release holds, and is done once', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = [
        bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }),
        bucket({ unit: 'DAY', threshold: 100 }),
      ]
      const settled = await admit(counters, buckets, 10)
      await counters.settle(settled, 20)
      await counters.settle(settled, 30)
      await counters.release(settled)
      await counters.renew([settled])
      assert.deepEqual(await levels(counters, buckets), [20, 1])

      const released = await admit(counters, buckets, 10)
      await counters.release(released)
      await counters.release(released)
      await counters.settle(released, 30)
      await counters.renew([released])
      assert.deepEqual(await levels(counters, buckets), [20, 1])
    })

    test('what is neither settled nor released returns when its lease ends', async () => {
      const { counters, pass } = await running.open({ leaseMs })
      const buckets = [bucket({ unit: 'MINUTE', threshold: 1 }), bucket({ type: 'TOKEN', unit: 'DAY', threshold: 10 })]
      await admit(counters, buckets, 10)
      await pass(leaseMs / 2)
      assert.deepEqual(await levels(counters, buckets), [1, 10])
      await pass(leaseMs)
      assert.deepEqual(await levels(counters, buckets), [0, 0])
    })

    test('a renewed lease holds on, and only that one', async () => {
      const { counters, pass } = await running.open({ leaseMs })
      const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 })]
      const renewed = await admit(counters, buckets, 10)
      await admit(counters, buckets, 5)
      for (let i = 0; i < 4; i += 1) {
        await pass(leaseMs / 2)
        await counters.renew([renewed])
      }
      assert.deepEqual(await levels(counters, buckets), [10])
      await counters.release(renewed)
      assert.deepEqual(await levels(counters, buckets), [0])
    })

    test('a settlement after the end of the lease still counts, and once', async () => {
      const { counters, pass } = await running.open({ leaseMs })
      const buckets = [
        bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }),
        bucket({ type: 'REQUEST', unit: 'DAY', threshold: 100 }),
        bucket({ type: 'TOKEN', unit: 'DAY', threshold: 100 }),
      ]
      const late = await admit(counters, buckets, 10)
      await pass(leaseMs * 2)
      assert.deepEqual(await levels(counters, buckets), [0, 0, 0])
      await counters.settle(late, 25)
      await counters.settle(late, 25)
      assert.deepEqual(await levels(counters, buckets), [25, 1, 25])
    })

    test('a release after the end of the lease gives nothing back a second time', async () => {
      const { counters, pass } = await running.open({ leaseMs })
      const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 })]
      const late = await admit(counters, buckets, 10)
      await pass(leaseMs * 2)
      const other = await admit(counters, buckets, 30)
      await counters.release(late)
      await counters.settle(late, 50)
      assert.deepEqual(await levels(counters, buckets), [30])
      await counters.release(other)
    })

    test('a request whose lease ended while it was in flight counts again when it is renewed', async () => {
      const { counters, pass } = await running.open({ leaseMs })
      const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }), bucket({ unit: 'DAY', threshold: 9 })]
      const late = await admit(counters, buckets, 10)
      await pass(leaseMs * 2)
      assert.deepEqual(await levels(counters, buckets), [0, 0])
      await counters.renew([late])
      assert.deepEqual(await levels(counters, buckets), [10, 1])
      await counters.settle(late, 4)
      assert.deepEqual(await levels(counters, buckets), [4, 1])
    })

    test('seeding sets what the day has settled, and leaves what is reserved on top', async () => {
      const { counters, today } = await running.open({ leaseMs: 60_000 })
      const owner = newOwner()
      const requests = bucket({ owner, type: 'REQUEST', unit: 'DAY', threshold: 10 })
      const tokens = bucket({ owner, type: 'TOKEN', unit: 'DAY', threshold: 1_000 })
      const settled = await admit(counters, [requests, tokens], 100)
      await counters.settle(settled, 100)
      await admit(counters, [requests, tokens], 50)

      for (let i = 0; i < 2; i += 1) {
        await counters.seedDay(today(), [
          { hierarchy, owner, slug: 'lab/model', node: settled.node, requests: 5, tokens: 400 },
          { hierarchy, owner, slug: 'lab/model', node: 'another node', requests: 2, tokens: 300 },
        ])
      }
      assert.deepEqual(await levels(counters, [requests, tokens]), [8, 750])
      await admit(counters, [requests, tokens], 250)
      assert.notEqual(await waitFor(counters, [tokens], 1), 0)
    })

    test("the day's usage shows requests as they are admitted and tokens as they are settled", async () => {
      const { counters } = await running.open({ leaseMs: 60_000 })
      const owner = newOwner()
      const buckets = (['REQUEST', 'TOKEN'] as const).map((type) =>
        bucket({ owner, type, unit: 'DAY', threshold: null }),
      )
      const usage = async () => {
        const bySlug = await counters.dayUsage({ hierarchy, owner, slugs: ['lab/model', 'lab/other'] })
        return [...bySlug].map(([slug, { requests, tokens }]) => ({ slug, requests, tokens }))
      }
      assert.deepEqual(await usage(), [])
      const first = await admit(counters, buckets, 100)
      assert.deepEqual(await usage(), [{ slug: 'lab/model', requests: 1, tokens: 0 }])
      await counters.settle(first, 60)
      const second = await admit(counters, buckets, 100)
      assert.deepEqual(await usage(), [{ slug: 'lab/model', requests: 2, tokens: 60 }])
      await counters.release(second)
      assert.deepEqual(await usage(), [{ slug: 'lab/model', requests: 1, tokens: 60 }])
    })

    test('a token count that is no whole number, or more than a request can use, is an error and changes nothing', async () => {
      const { counters } = await running.open({ leaseMs })
      const buckets = [bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 100 })]
      const hold = await admit(counters, buckets, 10)
      for (const tokens of [Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, requestTokensMax + 1]) {
        await assert.rejects(counters.take({ hierarchy, buckets, tokens }), RangeError)
        await assert.rejects(counters.settle(hold, tokens), RangeError)
      }
      assert.deepEqual(await levels(counters, buckets), [10])
      await counters.settle(hold, 5)
      assert.deepEqual(await levels(counters, buckets), [5])
    })
  })
}

/** A request of 10 tokens, in windows and for the day. */
function roomForOne(): Bucket[] {
  return [
    bucket({ unit: 'SECOND', threshold: 1 }),
    bucket({ type: 'TOKEN', unit: 'MINUTE', threshold: 10 }),
    bucket({ unit: 'DAY', threshold: 1 }),
    bucket({ type: 'TOKEN', unit: 'DAY', threshold: 10 }),
  ]
}

async function admit(counters: CounterStore, buckets: readonly Bucket[], tokens = 1): Promise<Hold> {
  const taken = await counters.take({ hierarchy, buckets, tokens })
  assert.ok(taken.taken, 'must be admitted')
  return taken.hold
}

/** How long a request would have to wait, 0 if not at all; leaves the counters as they are. */
async function waitFor(counters: CounterStore, buckets: readonly Bucket[], tokens = 1): Promise<number | null> {
  const taken = await counters.take({ hierarchy, buckets, tokens })
  if (!taken.taken) return taken.refused.retryAfterMs
  await counters.release(taken.hold)
  return 0
}

async function refusing(counters: CounterStore, buckets: readonly Bucket[], tokens: number): Promise<string> {
  const taken = await counters.take({ hierarchy, buckets, tokens })
  assert.ok(!taken.taken, 'must be refused')
  return taken.refused.bucket.key
}

/** What is used of each bucket, read by a request that is refused, and so takes nothing. */
async function levels(counters: CounterStore, buckets: readonly Bucket[]): Promise<number[]> {
  const barrier = bucket({ threshold: 0 })
  const refused = await counters.take({ hierarchy, buckets: [...buckets, barrier], tokens: 0 })
  assert.equal(refused.taken, false)
  return used(refused).slice(0, -1)
}

function used({ levels }: Taken): number[] {
  return levels.map(({ used }) => used)
}
