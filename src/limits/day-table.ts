import { nextUtcDay, utcDay } from '../clock.ts'

/** What one counter counted on one UTC day. It is never reset: the next day has a counter of its own. */
export class DayCounter {
  /** The sum over the billing record, as far as this store was told. */
  settled = 0
  /** What is settled, and what is reserved. */
  #used = 0
  readonly #dayEndsAtMs: number

  constructor(dayEndsAtMs: number) {
    this.#dayEndsAtMs = dayEndsAtMs
  }

  used(): number {
    return this.#used
  }

  /** Counts `amount`, or takes it back when negative. */
  count(amount: number): void {
    this.#used += amount
  }

  /** Sets what is settled; what is reserved stays on top. */
  seed(settled: number): void {
    this.#used += settled - this.settled
    this.settled = settled
  }

  /** Whole milliseconds until `amount` more fits under `threshold` if nothing else happens: 0 now, Infinity never. */
  fitsAfterMs(amount: number, threshold: number, wallMs: number): number {
    if (threshold === 0 || amount > threshold) return Number.POSITIVE_INFINITY
    return this.#used + amount <= threshold ? 0 : this.emptyAfterMs(wallMs)
  }

  emptyAfterMs(wallMs: number): number {
    return Math.ceil(this.#dayEndsAtMs - wallMs)
  }
}

/** The counters of one UTC day. */
export class Day {
  readonly endsAtMs: number
  readonly #startsAtMs: number
  readonly #counters = new Map<string, DayCounter>()

  constructor(wallMs: number) {
    this.endsAtMs = nextUtcDay(wallMs)
    this.#startsAtMs = Date.parse(utcDay(wallMs))
  }

  includes(wallMs: number): boolean {
    return wallMs >= this.#startsAtMs && wallMs < this.endsAtMs
  }

  /** The counter `key`, or null while nothing was counted by it. */
  find(key: string): DayCounter | null {
    return this.#counters.get(key) ?? null
  }

  counter(key: string): DayCounter {
    const known = this.#counters.get(key)
    if (known !== undefined) return known

    const counter = new DayCounter(this.endsAtMs)
    this.#counters.set(key, counter)
    return counter
  }
}

/**
 * The days last asked for. More than one, so that a wall clock which jumps over midnight and is set right again finds
 * its day as it left it; few, so that memory holds no past.
 */
export class DayTable {
  /** The one asked for last stands first. */
  #days: Day[] = []

  day(wallMs: number): Day {
    const [last] = this.#days
    if (last?.includes(wallMs)) return last

    const day = this.#days.find((known) => known.includes(wallMs)) ?? new Day(wallMs)
    this.#days = [day, ...this.#days.filter((other) => other !== day)].slice(0, 3)
    return day
  }
}
