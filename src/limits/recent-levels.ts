import { canRefuse } from './buckets.ts'
import type { Level } from './counter-store.ts'
import type { RateLimitUnit } from './effective-limits.ts'
import { Generations } from './generations.ts'
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

/** The levels of rate limits that were told within the memory of their windows. */
export class RecentLevels {
  readonly #levels = new Generations<RecentLevel>(windowMemoryMs)

  remember(levels: readonly Level[], { atMs, storeMs }: Pick<RecentLevel, 'atMs' | 'storeMs'>): void {
    for (const { bucket, used } of levels) {
      const { key, unit } = bucket
      if (unit !== 'DAY' && canRefuse(bucket)) this.#levels.set(key, { key, unit, used, atMs, storeMs }, atMs)
    }
  }

  /** What was told changes by what is known here. */
  change(key: string, amount: number): void {
    const level = this.find(key)
    if (level !== null) level.used = Math.max(0, level.used + amount)
  }

  find(key: string): RecentLevel | null {
    return this.#levels.peek(key) ?? null
  }

  all(): Iterable<RecentLevel> {
    return this.#levels.values()
  }
}
