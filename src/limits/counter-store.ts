import { UnavailableError } from '../errors.ts'
import { requestTokensMax } from '../token-bounds.ts'
import type { Bucket, BucketSet, LimitBucket } from './buckets.ts'

/**
 * Where the counters of all limits live. An implementation may be in this process or far away; data goes in and out
 * plain, and one store may serve many limiters.
 *
 * What every implementation promises:
 * - `take` looks at all buckets and takes from all of them, or from none, in one step. A refusal changes nothing.
 * - Time is the store's own: rolling windows go by a clock that never goes back, days by the UTC date of its wall clock.
 *   A caller's clock moves neither, and a wall clock that jumps moves no window.
 * - In no interval of a rate limit's unit, wherever it starts, do the requests taken and not given back exceed the
 *   threshold; nor do the tokens, but for what settled above its reservation.
 * - The counter of a day belongs to that day. Nothing is ever reset.
 * - What is neither settled, abandoned nor released returns by itself once `leaseMs` have passed since it was taken or renewed.
 *   A settlement that comes later still counts, for a day.
 * - `take`, `seedDay` and `dayUsage` reject with `CountersUnavailable` when the store cannot be reached, and `take` when a token count is not a
 *   whole number from 0 to `requestTokensMax`: a counter that was fed anything else would refuse nobody, or drift.
 *   `settle`, `abandon` and `release` see to it themselves that what they were told is not lost, and reject only such a
 *   token count; `renew` never rejects.
 */
export interface CounterStore {
  readonly leaseMs: number

  /** Takes 1 from every REQUEST bucket and `tokens` from every TOKEN bucket, where each stays within its threshold. */
  take(demand: Demand): Promise<Taken>

  /**
   * The request was served and used `tokens`: the reservation becomes that figure, at the time of admission and on its
   * day. The first of `settle`, `abandon` and `release` holds; whatever follows changes nothing.
   */
  settle(hold: Hold, tokens: number): Promise<void>

  /**
   * The client left before there was anything to serve. The request was admitted: rolling windows go on counting it,
   * with `tokens`. A day counts what is in the record, and gives back all that it took.
   */
  abandon(hold: Hold, tokens: number): Promise<void>

  /** Upstream failed to serve the request: all that it took returns, the request itself included. */
  release(hold: Hold): Promise<void>

  /** These requests are still in flight: their leases start anew. One that had run out is counted again. */
  renew(holds: readonly Hold[]): Promise<void>

  /**
   * What the billing record has of the UTC day (`YYYY-MM-DD`), by the process that counted it; all sums of one counter
   * come in one call. It sets, and does not add to, what is settled.
   */
  seedDay(day: string, sums: readonly DaySum[]): Promise<void>

  /** Today's usage of `owner` by slug. A slug without a request today is not in it. */
  dayUsage(query: { hierarchy: string; owner: string; slugs: readonly string[] }): Promise<Map<string, DayUsage>>
}

export interface Demand extends BucketSet {
  /** What the request is expected to use, at least 0. */
  tokens: number
}

export type Taken =
  | { taken: true; hold: Hold; levels: readonly Level[] }
  | { taken: false; refused: Refused; levels: readonly Level[] }

/** Where a bucket stands: after taking, or untouched when the request was refused. */
export interface Level {
  bucket: Bucket
  /** What is settled and what is reserved. */
  used: number
  /** Whole milliseconds until nothing of it counts any more, if nothing else happens. */
  resetMs: number
}

/** Of the limits that the request does not fit, the one that it must wait for longest. */
export interface Refused {
  bucket: LimitBucket
  /** After this wait, in whole milliseconds, the request fits if nothing else happens, and not before; null: never. */
  retryAfterMs: number | null
}

/** What a request holds of its buckets until it is settled or released. */
export interface Hold {
  /** Its own among all holds of the store. */
  id: number | string
  hierarchy: string
  /** The process whose counters of the day count it: the record keeps its sums by this name. Empty for one alone. */
  node: string
  /** The store's wall clock: the request counts towards the UTC day of this time. */
  admittedAtMs: number
}

export interface DaySum {
  hierarchy: string
  owner: string
  slug: string
  /** Which process counted this: `Hold.node`. */
  node: string
  requests: number
  tokens: number
}

export interface DayUsage {
  /** Requests admitted, those in flight included. */
  requests: number
  /** Tokens settled: nothing of what requests in flight have reserved. */
  tokens: number
  /** When the day ends, on the store's wall clock. */
  resetAtMs: number
}

/**
 * Throws `RangeError`: a counter that was fed anything else than a whole number of at least 0 would refuse nobody, and
 * one that was fed more than a request can use would lose bits.
 */
export function assertCountable(tokens: number): void {
  if (!Number.isSafeInteger(tokens) || tokens < 0 || tokens > requestTokensMax) {
    throw new RangeError(`A token count must be a whole number from 0 to ${requestTokensMax}, and is ${tokens}.`)
  }
}

/** The counters cannot be asked, and so nothing can be admitted (contract §12: 503). */
export class CountersUnavailable extends UnavailableError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CountersUnavailable'
  }
}
