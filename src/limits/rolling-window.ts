import type { RateLimitUnit } from './effective-limits.ts'

/** A unit's length is `slots` times `slotMs`. */
const shapes = {
  SECOND: { slotMs: 50, slots: 20 },
  MINUTE: { slotMs: 1_000, slots: 60 },
} satisfies Record<RateLimitUnit, { slotMs: number; slots: number }>

/** No window remembers anything for longer than this. */
export const windowMemoryMs = Math.max(...Object.values(shapes).map(({ slotMs, slots }) => slotMs * (slots + 1)))

/**
 * What was counted in the last second or minute: a ring of slots, of which the one that straddles the window's edge
 * counts whole. So no interval of the unit's length, wherever it starts, holds more than is counted; the price is that
 * an amount counts for up to one slot longer than it must.
 *
 * Times are milliseconds of a clock that never goes back, amounts are integers. Plain arrays: on Node 26 they measured
 * as fast as a Float64Array (16 against 20 ns an operation), and keep the memory of a small window on the heap.
 */
export class RollingWindow {
  readonly #slotMs: number
  readonly #amounts: number[]
  #newestSlot = 0
  #used = 0

  constructor(unit: RateLimitUnit) {
    const { slotMs, slots } = shapes[unit]
    this.#slotMs = slotMs
    this.#amounts = new Array<number>(slots + 1).fill(0)
  }

  /** What counts now. */
  used(nowMs: number): number {
    this.#moveTo(nowMs)
    return this.#used
  }

  /** Counts `amount`, or takes it back when negative, as of `atMs`; what has left the window stays as it was. */
  count(amount: number, atMs: number, nowMs: number): void {
    this.#moveTo(nowMs)
    const slot = this.#slotAt(atMs)
    if (slot < this.#oldestSlot()) return
    this.#amounts[this.#index(slot)] = this.#amountIn(slot) + amount
    this.#used += amount
  }

  /** Whole milliseconds until `amount` more fits under `threshold` if nothing else happens: 0 now, Infinity never. */
  fitsAfterMs(amount: number, threshold: number, nowMs: number): number {
    if (threshold === 0 || amount > threshold) return Number.POSITIVE_INFINITY
    let used = this.used(nowMs)
    if (used + amount <= threshold) return 0

    let slot = this.#oldestSlot()
    for (used -= this.#amountIn(slot); used + amount > threshold; used -= this.#amountIn(slot)) {
      if (slot === this.#newestSlot) break
      slot += 1
    }
    return this.#leavesAfterMs(slot, nowMs)
  }

  /** Whole milliseconds until nothing counts any more if nothing else happens. */
  emptyAfterMs(nowMs: number): number {
    if (this.used(nowMs) === 0) return 0
    for (let slot = this.#newestSlot; slot >= this.#oldestSlot(); slot -= 1) {
      if (this.#amountIn(slot) !== 0) return this.#leavesAfterMs(slot, nowMs)
    }
    // Whatever was counted, and however badly it adds up: a window that has nothing in it counts nothing.
    this.#used = 0
    return 0
  }

  #moveTo(nowMs: number): void {
    const slot = this.#slotAt(nowMs)
    const passed = Math.min(slot - this.#newestSlot, this.#amounts.length)
    for (let next = slot - passed + 1; next <= slot; next += 1) {
      this.#used -= this.#amountIn(next)
      this.#amounts[this.#index(next)] = 0
    }
    this.#newestSlot = slot
  }

  #leavesAfterMs(slot: number, nowMs: number): number {
    return Math.ceil((slot + this.#amounts.length) * this.#slotMs - nowMs)
  }

  #oldestSlot(): number {
    return this.#newestSlot - this.#amounts.length + 1
  }

  #slotAt(ms: number): number {
    return Math.floor(ms / this.#slotMs)
  }

  #amountIn(slot: number): number {
    // The index is always within the array; the compiler cannot know.
    return this.#amounts[this.#index(slot)] ?? 0
  }

  #index(slot: number): number {
    const { length } = this.#amounts
    return (slot + length) % length
  }
}
