import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Bucket, canRefuse } from '../../src/limits/buckets.ts'
import { limitEnforcements, rateLimitUnits } from '../../src/limits/effective-limits.ts'
import { bucket } from '../support/limit-buckets.ts'
import {
  anyActions,
  anyConfiguration,
  groupNames,
  type Limits,
  type Requested,
  Simulation,
} from '../support/limit-simulation.ts'

const numRuns = 600
const shapes = {
  SECOND: { lengthMs: 1_000, slotMs: 50 },
  MINUTE: { lengthMs: 60_000, slotMs: 1_000 },
  DAY: { lengthMs: 0, slotMs: 0 },
}
const anyEnforcement = fc.constantFrom(...limitEnforcements)

test('whatever happens in between, nothing is admitted past a threshold, and nothing refused that has room', async () => {
  await fc.assert(
    fc.asyncProperty(anyConfiguration, anyEnforcement, anyActions, async (configuration, enforcement, actions) => {
      const simulation = new Simulation({ configuration, enforcement, leaseMs: 5_000 })
      for (const action of actions) {
        const requested = await simulation.perform(action)
        if (requested !== null) assertJust(simulation, requested)
      }
    }),
    { numRuns },
  )
})

test("a group's usage of the day equals the sum over what was admitted and settled on it", async () => {
  await fc.assert(
    fc.asyncProperty(anyConfiguration, anyEnforcement, anyActions, async (configuration, enforcement, actions) => {
      const simulation = new Simulation({ configuration, enforcement, leaseMs: 5_000 })
      for (const action of actions) await simulation.perform(action)

      for (const owner of groupNames) {
        const usage = await simulation.counters.dayUsage({ hierarchy: 'root', owner, slugs: ['lab/model'] })
        const { requests, tokens } = usage.get('lab/model') ?? { requests: 0, tokens: 0 }
        assert.deepEqual({ requests, tokens }, simulation.usageToday(owner))
      }
    }),
    { numRuns },
  )
})

test('a refused request leaves every counter of its path as if it had never been made', async () => {
  await fc.assert(
    fc.asyncProperty(anyConfiguration, anyEnforcement, anyActions, async (configuration, enforcement, actions) => {
      const eventful = new Simulation({ configuration, enforcement, leaseMs: 5_000 })
      const quiet = new Simulation({ configuration, enforcement, leaseMs: 5_000 })
      for (const action of actions) {
        const requested = await eventful.perform(action)
        if (requested === null || requested.taken.taken) await quiet.perform(action)
        else assert.deepEqual(await levelsOf(eventful), await levelsOf(quiet))
      }
    }),
    { numRuns },
  )
})

test('a refused request is admitted after the wait it was told, and not a millisecond earlier', async () => {
  const anyRequest = fc.record({ group: fc.constantFrom(...groupNames), tokens: fc.nat(60) })
  // Room that a lease's end makes comes early, and a day that a clock set back comes to again is not empty: not here.
  const leaseMs = 1_000_000_000
  await fc.assert(
    fc.asyncProperty(
      anyConfiguration,
      anyEnforcement,
      anyActions,
      anyRequest,
      async (configuration, enforcement, actions, { group, tokens }) => {
        const simulation = new Simulation({ configuration, enforcement, leaseMs })
        for (const action of actions) if (action.kind !== 'jump') await simulation.perform(action)

        for (let tries = 0; tries < 10; tries += 1) {
          const { taken } = await simulation.request(group, tokens)
          if (taken.taken) continue
          const { bucket, retryAfterMs } = taken.refused
          if (retryAfterMs === null) return assert.ok(bucket.threshold === 0 || tokens > bucket.threshold)

          assert.ok(Number.isInteger(retryAfterMs) && retryAfterMs >= 1, `waits ${retryAfterMs} ms`)
          simulation.clock.advance(retryAfterMs - 1)
          assert.equal((await simulation.request(group, tokens)).taken.taken, false)
          simulation.clock.advance(1)
          assert.equal((await simulation.request(group, tokens)).taken.taken, true)
        }
      },
    ),
    { numRuns },
  )
})

test('no interval of the length of a unit, wherever it starts, holds more than the threshold', async () => {
  const anyThresholds = fc.record({
    requests: fc.integer({ min: 1, max: 6 }),
    tokens: fc.integer({ min: 1, max: 150 }),
  })
  const traffic = anyActions.map((actions) => actions.filter(({ kind }) => kind !== 'configure' && kind !== 'renew'))
  await fc.assert(
    fc.asyncProperty(
      anyThresholds,
      fc.constantFrom(...rateLimitUnits),
      traffic,
      async ({ requests, tokens }, unit, actions) => {
        const limits: Limits = {
          rate_limits: [
            { type: 'REQUEST', unit, threshold: requests },
            { type: 'TOKEN', unit, threshold: tokens },
          ],
          usage_limits: [],
        }
        const simulation = new Simulation({
          configuration: { root: limits, middle: limits, left: limits, right: limits },
          enforcement: 'CASCADING',
          leaseMs: 1_000_000_000,
        })
        for (const action of actions) await simulation.perform(action)

        // An interval that holds as much as any starts with an admission, so these are all offsets there are.
        for (const { atMs: start } of simulation.book) {
          const interval = simulation.book.filter(({ atMs }) => atMs >= start && atMs <= start + shapes[unit].lengthMs)
          const overrun = sum(interval.map(({ tokens, reserved }) => Math.max(0, tokens - reserved)))
          assert.ok(sum(interval.map((entry) => entry.requests)) <= requests)
          assert.ok(sum(interval.map((entry) => entry.tokens)) <= tokens + overrun)
        }
      },
    ),
    { numRuns },
  )
})

/** Holds what the store decided and reported against the book, in which the request stands if it was admitted. */
function assertJust(simulation: Simulation, { buckets, tokens, taken }: Requested): void {
  const least = (bucket: Bucket) => simulation.held(bucket, shapes[bucket.unit].lengthMs)
  const most = (bucket: Bucket) => simulation.held(bucket, shapes[bucket.unit].lengthMs + shapes[bucket.unit].slotMs)

  for (const { bucket, used } of taken.levels) {
    assert.ok(least(bucket) <= used && used <= most(bucket), `${bucket.key}: ${used} used`)
  }
  if (taken.taken) {
    for (const bucket of buckets.filter(canRefuse)) {
      assert.ok(bucket.threshold > 0 && least(bucket) <= bucket.threshold, `${bucket.key} is past its threshold`)
    }
  } else {
    const { bucket } = taken.refused
    const own = bucket.type === 'REQUEST' ? 1 : tokens
    assert.ok(bucket.threshold === 0 || most(bucket) + own > bucket.threshold, `${bucket.key} had room`)
  }
}

/** What all groups' counters show, read by requests that are refused. */
async function levelsOf(simulation: Simulation): Promise<unknown[]> {
  const barrier = bucket({ threshold: 0 })
  const answers = groupNames.map((group) => {
    const { hierarchy, buckets } = simulation.buckets(group)
    return simulation.counters.take({ hierarchy, buckets: [...buckets, barrier], tokens: 0 })
  })
  return (await Promise.all(answers)).flatMap(({ levels }) => levels.slice(0, -1))
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0)
}
