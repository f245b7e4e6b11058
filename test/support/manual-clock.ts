import type { Clock, Timer } from '../../src/clock.ts'

/** A clock that moves only when a test moves it; timers fire, in order, while it moves. */
export class ManualClock implements Clock {
  #wallMs: number
  #monotonicMs = 0
  readonly #timers = new Set<{ dueMs: number; callback: () => void }>()

  constructor(start: string | number = '2026-01-15T12:00:00.000Z') {
    this.#wallMs = typeof start === 'number' ? start : Date.parse(start)
  }

  now(): number {
    return this.#wallMs
  }

  monotonic(): number {
    return this.#monotonicMs
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { dueMs: this.#monotonicMs + Math.max(0, delayMs), callback }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** Milliseconds until the next timer fires, or null when none is set. */
  nextTimerMs(): number | null {
    const next = this.#nextTimer()
    return next === null ? null : next.dueMs - this.#monotonicMs
  }

  /** Moves both clocks forward, firing what comes due at the time it comes due. */
  advance(ms: number): void {
    const end = this.#monotonicMs + ms
    for (let next = this.#nextTimer(); next !== null && next.dueMs <= end; next = this.#nextTimer()) {
      this.#moveTo(next.dueMs)
      this.#timers.delete(next)
      next.callback()
    }
    this.#moveTo(end)
  }

  /** Sets the wall clock alone, as an administrator or a time server may; timers do not notice. */
  jumpTo(wall: string | number): void {
    this.#wallMs = typeof wall === 'number' ? wall : Date.parse(wall)
  }

  #moveTo(monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs
    this.#monotonicMs = monotonicMs
  }

  #nextTimer() {
    let next: { dueMs: number; callback: () => void } | null = null
    for (const timer of this.#timers) if (next === null || timer.dueMs < next.dueMs) next = timer
    return next
  }
}
