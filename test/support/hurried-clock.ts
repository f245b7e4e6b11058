import type { Clock } from '../../src/clock.ts'

/**
 * A clock for tests that ask more often than a key may: each look at its monotonic time is 20 ms after the one before.
 * No timer of it ever fires, so nothing happens that no request asked for.
 */
export class HurriedClock implements Clock {
  #monotonicMs = 0

  now(): number {
    return Date.now()
  }

  monotonic(): number {
    this.#monotonicMs += 20
    return this.#monotonicMs
  }

  after(): { cancel(): void } {
    return { cancel() {} }
  }
}
