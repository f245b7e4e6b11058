import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type RateLimitUnit, rateLimitUnits } from '../../src/limits/effective-limits.ts'
import { RollingWindow } from '../../src/limits/rolling-window.ts'

const shapes = { SECOND: { lengthMs: 1_000, slotMs: 50 }, MINUTE: { lengthMs: 60_000, slotMs: 1_000 } }
const numRuns = 1_000

interface Step {
  /** Time that passes first, in thousandths of the window's length and a quarter of a millisecond for each. */
  passes: number
  amount: number
  /** Which entry, counted from the newest, then becomes how much. */
  change: { back: number; to: number } | null
}

const anyUnit = fc.constantFrom(...rateLimitUnits)
const anySteps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    passes: fc.oneof(fc.constant(0), fc.nat(300), fc.integer({ min: 900, max: 2_500 })),
    amount: fc.integer({ min: 0, max: 40 }),
    change: fc.option(fc.record({ back: fc.nat(8), to: fc.integer({ min: 0, max: 80 }) })),
  }),
  { maxLength: 40, size: 'max' },
)

test('a window counts all of the last unit, and of the time before it at most one slot', () => {
  fc.assert(
    fc.property(anyUnit, anySteps, (unit, steps) => {
      const { lengthMs, slotMs } = shapes[unit]
      play(unit, steps, ({ window, entries, nowMs }) => {
        const used = window.used(nowMs)
        assert.ok(used >= sumSince(entries, nowMs - lengthMs), 'counts all that it must')
        assert.ok(used <= sumSince(entries, nowMs - lengthMs - slotMs), 'counts no more than it may')
      })
    }),
    { numRuns },
  )
})

test('the wait that a window tells is true to the millisecond', () => {
  fc.assert(
    fc.property(anyUnit, anySteps, fc.integer({ min: 1, max: 200 }), fc.nat(200), (unit, steps, threshold, amount) => {
      fc.pre(amount <= threshold)
      const { window, nowMs } = play(unit, steps)
      const waitMs = window.fitsAfterMs(amount, threshold, nowMs)
      if (waitMs > 0) assert.ok(window.used(nowMs + waitMs - 1) + amount > threshold, 'does not fit before')
      assert.ok(window.used(nowMs + waitMs) + amount <= threshold, 'fits then')
    }),
    { numRuns },
  )
})

test('a window is empty when it says so, to the millisecond', () => {
  fc.assert(
    fc.property(anyUnit, anySteps, (unit, steps) => {
      const { window, nowMs } = play(unit, steps)
      const waitMs = window.emptyAfterMs(nowMs)
      if (waitMs > 0) assert.ok(window.used(nowMs + waitMs - 1) > 0, 'is not empty before')
      assert.equal(window.used(nowMs + waitMs), 0)
    }),
    { numRuns },
  )
})

test('a window with nothing in it counts nothing, however badly what was in it adds up', () => {
  const window = new RollingWindow('SECOND')
  for (const [index, amount] of [2 ** 53 - 1, 2 ** 53 - 2, 2 ** 53 - 1].entries()) {
    window.count(amount, index * 100, index * 100)
  }
  let nowMs = 200
  // Somebody asks all the time, so that slots leave one by one.
  for (; nowMs < 1_400; nowMs += 50) window.used(nowMs)
  window.fitsAfterMs(1, 1_000, nowMs)
  assert.equal(window.emptyAfterMs(nowMs), 0)
  assert.equal(window.used(nowMs), 0)
  assert.equal(window.fitsAfterMs(1_000, 1_000, nowMs), 0)
})

interface Played {
  window: RollingWindow
  entries: Entry[]
  nowMs: number
}

interface Entry {
  atMs: number
  amount: number
}

function play(unit: RateLimitUnit, steps: readonly Step[], afterEach: (played: Played) => void = () => {}): Played {
  const played: Played = { window: new RollingWindow(unit), entries: [], nowMs: 0 }
  for (const { passes, amount, change } of steps) {
    played.nowMs += (passes * shapes[unit].lengthMs) / 1_000 + passes / 4
    played.window.count(amount, played.nowMs, played.nowMs)
    played.entries.push({ atMs: played.nowMs, amount })

    const changed = change === null ? undefined : played.entries.at(-1 - change.back)
    if (change !== null && changed !== undefined) {
      played.window.count(change.to - changed.amount, changed.atMs, played.nowMs)
      changed.amount = change.to
    }
    afterEach(played)
  }
  return played
}

function sumSince(entries: readonly Entry[], sinceMs: number): number {
  return entries.filter(({ atMs }) => atMs >= sinceMs).reduce((sum, { amount }) => sum + amount, 0)
}
