import { canRefuse } from './buckets.ts'
import type { Level } from './counter-store.ts'
import type { RateLimitUnit } from './effective-limits.ts'
import { windowMemoryMs } from './rolling-window.ts'

/** What a rolling window counted when it was last told. */
export interface RecentLevel {
  key: string
  unit: RateLimitUnit
  used: number
  /** When that was, on this process's monotonic clock. */
  atMs: number
  /** When that was, on the hierarchy's clock. */
  storeMs: number
}

/** The levels of rate limits that were told within the memory of their windows, in two generations. */
export class RecentLevels {
  #current = new Map<string, RecentLevel>()
  #previous = new Map<string, RecentLevel>()
  #currentSinceMs = 0

  remember(levels: readonly Level[], { atMs, storeMs }: Pick<RecentLevel, 'atMs' | 'storeMs'>): void {
    if (atMs - this.#currentSinceMs >= windowMemoryMs) {
      this.#previous = this.#current
      this.#current = new Map()
      this.#currentSinceMs = atMs
    }
    for (const { bucket, used } of levels) {
      const { key, unit } = bucket
      if (unit !== 'DAY' && canRefuse(bucket)) this.#current.set(key, { key, unit, used, atMs, storeMs })
    }
  }

  /** What was told changes by what is known here. */
  change(key: string, amount: number): void {
    const level = this.find(key)
    if (level !== null) level.used = Math.max(0, level.used + amount)
  }

  find(key: string): RecentLevel | null {
    return this.#current.get(key) ?? this.#previous.get(key) ?? null
  }

  *all(): Iterable<RecentLevel> {
    yield* this.#current.values()
    for (const [key, level] of this.#previous) if (!this.#current.has(key)) yield level
  }
}
