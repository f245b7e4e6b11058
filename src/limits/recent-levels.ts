import { canRefuse } from './buckets.ts'
import type { Level } from './counter-store.ts'
import { windowMemoryMs } from './rolling-window.ts'

/** What a rolling window counted, as it was last told, and when that was on the monotonic clock. */
export interface RecentLevel {
  used: number
  atMs: number
}

/** The levels of rate limits that were told within the memory of their windows, in two generations. */
export class RecentLevels {
  #current = new Map<string, RecentLevel>()
  #previous = new Map<string, RecentLevel>()
  #currentSinceMs = 0

  remember(levels: readonly Level[], nowMs: number): void {
    if (nowMs - this.#currentSinceMs >= windowMemoryMs) {
      this.#previous = this.#current
      this.#current = new Map()
      this.#currentSinceMs = nowMs
    }
    for (const { bucket, used } of levels) {
      if (bucket.limit === 'rate' && canRefuse(bucket)) this.#current.set(bucket.key, { used, atMs: nowMs })
    }
  }

  find(key: string): RecentLevel | null {
    return this.#current.get(key) ?? this.#previous.get(key) ?? null
  }
}
