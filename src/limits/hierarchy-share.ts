import { RecentLevels } from './recent-levels.ts'
import type { Claim } from './redis-claim.ts'

/** What was settled of one group and slug on one day. */
export interface Total {
  requests: number
  tokens: number
}

/** What became of a request: served and in the record, left by its client, or not served. */
export type ClaimEnd = { kind: 'settled' | 'abandoned'; tokens: number } | { kind: 'released' }

export interface Unfinished {
  end: ClaimEnd
  /** From then on it makes no difference: the lease is over, and no window remembers. */
  untilMs: number
  isBeingTold: boolean
  /** The claim was told again to a Redis that had lost it, and so must be its end. */
  isToldAgain: boolean
}

/**
 * This process's part in the counters of one hierarchy: what it has settled, and what it holds. Nobody else counts
 * this, and it only grows: told to Redis twice, late or after Redis has lost everything, it comes to the same.
 */
export class HierarchyShare {
  readonly hierarchy: string
  /** The epoch to which all of this has been told; empty: there was nothing to tell. */
  epoch = ''
  /** The latest time of the hierarchy's clock. */
  seenMs = 0
  /** Totals that Redis may not have. */
  isOwed = false
  /** Claims whose end Redis has not confirmed. */
  readonly unfinished = new Map<Claim, Unfinished>()
  readonly claims = new Set<Claim>()
  readonly levels = new RecentLevels()
  /** While it is being told. */
  introduction: Promise<void> | null = null
  /** While the ledger is asked again for what it could not say before. */
  completion: Promise<void> | null = null
  readonly #days = new Map<number, Map<string, Total>>()

  constructor(hierarchy: string) {
    this.hierarchy = hierarchy
  }

  add(day: number, counters: Iterable<string>, tokens: number): void {
    for (const counter of new Set(counters)) {
      const total = this.#total(day, counter)
      total.requests += 1
      total.tokens += tokens
    }
  }

  /** The record may know of more than this process does: then it is right. */
  raise(day: number, counter: string, { requests, tokens }: Total): void {
    const total = this.#total(day, counter)
    total.requests = Math.max(total.requests, requests)
    total.tokens = Math.max(total.tokens, tokens)
  }

  get hasSettled(): boolean {
    return this.#days.size > 0
  }

  total(day: number, counter: string): Total {
    return this.#days.get(day)?.get(counter) ?? { requests: 0, tokens: 0 }
  }

  *totals(): Iterable<{ day: number; counter: string } & Total> {
    for (const [day, counters] of this.#days) {
      for (const [counter, total] of counters) yield { day, counter, ...total }
    }
  }

  #total(day: number, counter: string): Total {
    let counters = this.#days.get(day)
    if (counters === undefined) {
      counters = new Map()
      this.#days.set(day, counters)
      this.#forgetBefore(day - 1)
    }
    let total = counters.get(counter)
    if (total === undefined) {
      total = { requests: 0, tokens: 0 }
      counters.set(counter, total)
    }
    return total
  }

  #forgetBefore(day: number): void {
    for (const known of this.#days.keys()) if (known < day) this.#days.delete(known)
  }
}

const generationMs = 2 * 24 * 60 * 60 * 1_000

/**
 * The shares of the hierarchies in use, in two generations. A share that was not asked for during a whole one has
 * nothing to say any more, and leaves with all others of its kind at once.
 */
export class ShareTable {
  #current = new Map<string, HierarchyShare>()
  #previous = new Map<string, HierarchyShare>()
  #currentSinceMs = 0

  share(hierarchy: string, nowMs: number): HierarchyShare {
    this.#turnOver(nowMs)
    const known = this.#current.get(hierarchy)
    if (known !== undefined) return known

    const share = this.#previous.get(hierarchy) ?? new HierarchyShare(hierarchy)
    this.#current.set(hierarchy, share)
    return share
  }

  *all(): Iterable<HierarchyShare> {
    yield* this.#current.values()
    for (const [hierarchy, share] of this.#previous) if (!this.#current.has(hierarchy)) yield share
  }

  #turnOver(nowMs: number): void {
    if (nowMs - this.#currentSinceMs < generationMs) return
    this.#previous = this.#current
    this.#current = new Map()
    this.#currentSinceMs = nowMs
  }
}
