import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'

const perSecondMax = 100
const windowMs = 1_000

/** Enough for the keys and routes of one second; beyond it the longest idle ones start anew. */
const remembered = 10_000

/** Holds each key to 100 requests a second on each route, as this node sees them (contract §4). */
export class RequestRate {
  readonly #clock: Clock
  readonly #latest = new LRUCache<string, { admittedAtMs: number[]; oldest: number }>({ max: remembered })

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Counts a request; 0 when it may pass, else the milliseconds until the next one may. */
  retryAfterMs(key: string, route: string): number {
    const nowMs = this.#clock.monotonic()
    const latest = this.#latestOf(`${key} ${route}`)
    const oldestMs = latest.admittedAtMs[latest.oldest] ?? Number.NEGATIVE_INFINITY
    if (nowMs - oldestMs < windowMs) return windowMs - (nowMs - oldestMs)
    latest.admittedAtMs[latest.oldest] = nowMs
    latest.oldest = (latest.oldest + 1) % perSecondMax
    return 0
  }

  #latestOf(identity: string) {
    const known = this.#latest.get(identity)
    if (known !== undefined) return known
    const latest = { admittedAtMs: [], oldest: 0 }
    this.#latest.set(identity, latest)
    return latest
  }
}
