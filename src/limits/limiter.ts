import { type Clock, repeat } from '../clock.ts'
import type { Metrics } from '../metrics.ts'
import { TransientMap } from '../transient-map.ts'
import { type Bucket, type BucketSet, canRefuse, type LimitBucket } from './buckets.ts'
import type { CounterStore, Hold, Level, Refused } from './counter-store.ts'
import type { LimitType } from './effective-limits.ts'

/**
 * Admission: what a request may use is taken before upstream is called, and becomes what it did use when it ends.
 *
 * - `buckets.ts` says which counters a request is counted by: one for each effective limit of its slug, and the day's.
 *   They are worked out once for each group and slug; a request only adds what it is expected to use.
 * - `reserve` takes that from all of them in one step, or from none. A refused request leaves no trace at any level.
 * - A reservation ends in one of two ways. `settle` puts the real figure in its place, at the time of admission;
 *   `release`, which is also what leaving its scope does, gives everything back. The first of them holds.
 * - While a request is in flight the limiter renews its lease, however long it streams. When this process dies, nobody
 *   does, and a store that outlives it gives the reservations back when their leases end.
 * - How counters are kept, and what happens when they are out of reach, is the store's affair: `counter-store.ts`.
 */
export interface Limiter extends Disposable {
  /** `tokens`: the estimate of the prompt plus the declared maximum of the output (contract §12). */
  reserve(buckets: BucketSet, estimate: { tokens: number }): Promise<Admission>
}

export type Admission =
  | { admitted: true; reservation: Reservation; rateLimits: RateLimits }
  | ({ admitted: false; rateLimits: RateLimits } & RefusedLimit)

/** The limit that refused a request: of those that it does not fit, the one that it must wait for longest. */
export interface RefusedLimit extends Pick<LimitBucket, 'slug' | 'limit' | 'type' | 'unit' | 'threshold' | 'scope'> {
  /** Whole milliseconds, at least 1: waiting that long admits the request if nothing else happens, a shorter wait does not. */
  retryAfterMs: number
  /** The request is larger than the limit. `retryAfterMs` is then a pause after which the limit may have been changed. */
  neverFits: boolean
}

/** The tightest rate limit of each type: the one that has least left. Null where there is none. */
export interface RateLimits {
  requests: RateLimitState | null
  tokens: RateLimitState | null
}

export interface RateLimitState {
  limit: number
  /** What is left after this request, at least 0. */
  remaining: number
  /** Whole milliseconds until all of the limit is there again, if nothing else happens. */
  resetMs: number
}

/** What an admitted request holds. `await using` gives it back on every way out, unless it was settled or abandoned. */
export interface Reservation extends AsyncDisposable {
  /** The counter store's wall clock: the request counts, and belongs into the record, on the UTC day of this time. */
  admittedAtMs: number
  /** The process that counts it, for the record: `Hold.node`. */
  node: string
  /** The request was served; `tokens` is what it used, prompt and completion. */
  settle(used: { tokens: number }): Promise<void>
  /** The client left before there was anything to serve; `tokens` is what its prompt is estimated at. */
  abandon(used: { tokens: number }): Promise<void>
  /** Upstream failed to serve the request: gives back all that it took, the request itself included. */
  release(): Promise<void>
}

/** Disposing of the limiter ends the renewal of leases: to be done when no request is in flight any more. */
export function openLimiter({
  counters,
  clock,
  metrics = { settledOverReservation() {} },
}: {
  counters: CounterStore
  clock: Clock
  metrics?: Pick<Metrics, 'settledOverReservation'>
}): Limiter {
  const inFlight = new TransientMap<Hold['id'], Hold>()
  const renewal = repeat(clock, counters.leaseMs / 3, () => void counters.renew([...inFlight.values()]))

  return {
    async reserve({ hierarchy, buckets }, { tokens }) {
      const taken = await counters.take({ hierarchy, buckets, tokens })
      const rateLimits = { requests: tightest(taken.levels, 'REQUEST'), tokens: tightest(taken.levels, 'TOKEN') }
      if (!taken.taken) return { admitted: false, rateLimits, ...refusedLimit(taken.refused) }

      inFlight.set(taken.hold.id, taken.hold)
      return {
        admitted: true,
        rateLimits,
        reservation: new HeldReservation(taken.hold, { tokens, counters, inFlight, metrics }),
      }
    },
    [Symbol.dispose]: () => renewal.cancel(),
  }
}

interface ReservationParts {
  tokens: number
  counters: CounterStore
  /** Has the hold until it is settled or released. */
  inFlight: TransientMap<Hold['id'], Hold>
  metrics: Pick<Metrics, 'settledOverReservation'>
}

class HeldReservation implements Reservation {
  readonly #hold: Hold
  readonly #parts: ReservationParts

  constructor(hold: Hold, parts: ReservationParts) {
    this.#hold = hold
    this.#parts = parts
  }

  get admittedAtMs(): number {
    return this.#hold.admittedAtMs
  }

  get node(): string {
    return this.#hold.node
  }

  async settle({ tokens }: { tokens: number }): Promise<void> {
    const { inFlight, counters, metrics, tokens: reserved } = this.#parts
    if (!inFlight.delete(this.#hold.id)) return
    if (tokens > reserved) metrics.settledOverReservation(tokens - reserved)
    await counters.settle(this.#hold, tokens)
  }

  async abandon({ tokens }: { tokens: number }): Promise<void> {
    if (this.#parts.inFlight.delete(this.#hold.id)) await this.#parts.counters.abandon(this.#hold, tokens)
  }

  async release(): Promise<void> {
    if (this.#parts.inFlight.delete(this.#hold.id)) await this.#parts.counters.release(this.#hold)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release()
  }
}

function tightest(levels: readonly Level[], type: LimitType): RateLimitState | null {
  let found: RateLimitState | null = null
  for (const { bucket, used, resetMs } of levels) {
    if (bucket.limit !== 'rate' || bucket.type !== type || !canRefuse(bucket)) continue
    const remaining = Math.max(0, bucket.threshold - used)
    const isTighter =
      found === null || remaining < found.remaining || (remaining === found.remaining && bucket.threshold < found.limit)
    if (isTighter) found = { limit: bucket.threshold, remaining, resetMs }
  }
  return found
}

const unitMs = { SECOND: 1_000, MINUTE: 60_000, DAY: 86_400_000 } satisfies Record<Bucket['unit'], number>

function refusedLimit({ bucket, retryAfterMs }: Refused): RefusedLimit {
  const { slug, limit, type, unit, threshold, scope } = bucket
  const neverFits = retryAfterMs === null
  return { slug, limit, type, unit, threshold, scope, retryAfterMs: retryAfterMs ?? unitMs[unit], neverFits }
}

/** What the customer is told: which limit, and what to do. Names no group. */
export function describeRefusal(refused: RefusedLimit): string {
  const { slug, limit, type, unit, threshold } = refused
  const kind = limit === 'rate' ? 'Rate' : 'Usage'
  const counted = `${type.toLowerCase()}${threshold === 1 ? '' : 's'}`
  return `${kind} limit reached for ${slug}: ${threshold} ${counted} per ${unit.toLowerCase()}. ${advice(refused)}`
}

function advice({ threshold, unit, retryAfterMs, neverFits }: RefusedLimit): string {
  if (threshold === 0) return 'This limit admits nothing.'
  if (neverFits) return 'This request alone is larger than the limit.'
  if (unit === 'DAY') return 'Try again after midnight UTC.'
  return `Try again in ${(Math.ceil(retryAfterMs / 100) / 10).toFixed(1)} s.`
}
