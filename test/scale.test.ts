import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { leaseThroughADay } from '../bench/scale-leases.ts'
import { type Run, seededRandom, simulate } from '../bench/scale-simulation.ts'

const idle = { nodeUs: 0, takeUs: 0, settleUs: 0, batchUs: 0, eventUs: 0, deliveryUs: 0 }
const run: Run = {
  rate: 5_000,
  nodes: 4,
  workers: 1,
  shards: 1,
  hierarchies: 100,
  skew: 0.8,
  hotShare: 0,
  leasedHierarchies: 0,
  leaseBlock: 1,
  databases: 1,
  ledgerWriters: 1,
  seconds: 40,
}

describe('the simulation of many nodes', () => {
  for (const utilisation of [0.3, 0.7, 0.85]) {
    test(`a shard that is ${utilisation} full lets wait as long as theory says of M/D/1`, () => {
      const takeUs = (utilisation * 1e6) / run.rate
      const { parts, shardWaitUsMean } = simulate(run, { ...idle, takeUs })
      const expectedUs = (utilisation * takeUs) / (2 * (1 - utilisation))
      assertWithin(parts.shard.mean, utilisation, 0.02)
      assertWithin(shardWaitUsMean, expectedUs, 0.08)
    })
  }

  test('the queue of a part that is over full grows by what is beyond it', () => {
    const { parts } = simulate({ ...run, seconds: 5 }, { ...idle, takeUs: 400 })
    assertWithin(parts.shard.busiest, 2, 0.03)
    assertWithin(parts.shard.backlogPerSecond, run.rate / 2, 0.05)
  })

  test('a ledger that ships batches is as busy as its events and transactions', () => {
    const { parts } = simulate({ ...run, seconds: 10 }, { ...idle, batchUs: 2_000, eventUs: 50 })
    const eventsOfANode = run.rate / run.nodes
    // A batch begins with an event, is gathered for a tenth of a second, and the next begins with the next event.
    const batchesASecond = run.nodes / (0.1 + 1 / eventsOfANode)
    assertWithin(parts.ledger.mean, batchesASecond * 0.002 + run.rate * 50e-6, 0.03)
  })

  test('leases take work from the shard of a hot hierarchy', () => {
    const busy = { ...run, shards: 8, hotShare: 0.5, seconds: 5 }
    const plain = simulate(busy, { ...idle, takeUs: 100 })
    const leased = simulate({ ...busy, leasedHierarchies: 1, leaseBlock: 50 }, { ...idle, takeUs: 100 })
    assert.ok(leased.parts.shard.busiest < plain.parts.shard.busiest / 2)
  })
})

describe('local leases of quota', () => {
  const day = fc.record({
    threshold: fc.integer({ min: 0, max: 2_000 }),
    nodes: fc.integer({ min: 1, max: 20 }),
    block: fc.integer({ min: 1, max: 300 }),
    shrinking: fc.boolean(),
    requests: fc.integer({ min: 0, max: 4_000 }),
    seed: fc.integer(),
  })

  test('admit never more than the threshold, and leave unused no more than is leased', () => {
    fc.assert(
      fc.property(day, ({ seed, ...day }) => {
        const { admitted, refusedEarly, stranded } = leaseThroughADay({ ...day, random: seededRandom(seed) })
        assert.ok(admitted + stranded <= day.threshold)
        assert.ok(stranded <= day.nodes * (day.block - 1))
        if (refusedEarly > 0) assert.ok(day.threshold - admitted <= day.nodes * (day.block - 1))
      }),
    )
  })

  test('of one admission each are exact: none is refused early', () => {
    fc.assert(
      fc.property(day, ({ seed, ...day }) => {
        const outcome = leaseThroughADay({ ...day, block: 1, random: seededRandom(seed) })
        assert.equal(outcome.admitted, Math.min(day.threshold, day.requests))
        assert.equal(outcome.refusedEarly, 0)
      }),
    )
  })
})

function assertWithin(actual: number, expected: number, tolerance: number): void {
  assert.ok(Math.abs(actual - expected) <= expected * tolerance, `${actual} is not ${expected} within ${tolerance}`)
}
