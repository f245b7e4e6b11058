import type { Timer } from '../clock.ts'

/** A first attempt at the next events of the record, or a further attempt at a delivery that there is already. */
export type AttemptKind = 'first' | 'repeat'

/** Attempts under way at a time, of each kind: neither new events nor old ones hold up the others. */
const underWayMax = { first: 4, repeat: 2 } satisfies Record<AttemptKind, number>

/** Attempts that may begin for one receiver together. */
export const attemptsAtOnceMax = underWayMax.first + underWayMax.repeat

/** While a receiver fails, how long after one first attempt the next may begin. */
const probeGapMs = 1_000

/**
 * What may be sent to one receiver at a time. Events that were never tried keep flowing while others are retried, so
 * that a range that its receiver cannot stomach holds up nothing. But a receiver whose last answer was a failure is
 * tried with new events once a second only: its backlog then waits in the record, where it costs nothing, and goes out
 * in full deliveries; what would otherwise pile up is dead deliveries of one event each.
 *
 * Times are those of the clock that never goes back: a wall clock that is set back holds up nothing here.
 */
export class Lane {
  /** Looks at the webhook again when something of it comes due. */
  timer: Timer | null = null
  #isFailing = false
  #probeMs = 0
  readonly #underWay = { first: 0, repeat: 0 } satisfies Record<AttemptKind, number>

  get isFailing(): boolean {
    return this.#isFailing
  }

  get isIdle(): boolean {
    return this.#underWay.first === 0 && this.#underWay.repeat === 0
  }

  /** How many attempts of a kind may begin now. */
  room(kind: AttemptKind, nowMs: number): number {
    if (kind === 'first' && this.#isFailing) return nowMs >= this.#probeMs && this.#underWay.first === 0 ? 1 : 0
    return underWayMax[kind] - this.#underWay[kind]
  }

  /** After how long to look for more, a delivery being due `dueAfterMs` from now; null: the end of an attempt says so. */
  nextLookAfterMs(dueAfterMs: number | null, nowMs: number): number | null {
    const waits: number[] = []
    if (dueAfterMs !== null && this.room('repeat', nowMs) > 0) waits.push(dueAfterMs)
    if (this.#isFailing && this.#underWay.first === 0 && this.#probeMs > nowMs) waits.push(this.#probeMs - nowMs)
    return waits.length === 0 ? null : Math.min(...waits)
  }

  begin(kind: AttemptKind, nowMs: number): void {
    this.#underWay[kind] += 1
    if (kind === 'first') this.#probeMs = nowMs + probeGapMs
  }

  end(kind: AttemptKind, { delivered }: { delivered: boolean }): void {
    this.#underWay[kind] -= 1
    this.#isFailing = !delivered
  }
}
