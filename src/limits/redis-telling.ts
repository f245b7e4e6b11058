import { randomUUID } from 'node:crypto'
import { type Clock, sleep, type Timer, utcDay } from '../clock.ts'
import { CountersUnavailable, type DaySum } from './counter-store.ts'
import type { ClaimEnd, HierarchyShare, Total } from './hierarchy-share.ts'
import type { RecordedUsage } from './recorded-usage.ts'
import { type Claim, claimText, dayCounter, dayKey, hierarchyKeys, windowKey } from './redis-claim.ts'
import type { RedisAnswer, RedisConnection, RedisFunction } from './redis-connection.ts'
import { windowMemoryMs } from './rolling-window.ts'

export interface TellingOptions {
  connection: RedisConnection
  /** This process's name in the record: no other process, now or later, has it. */
  node: string
  recordedUsage: RecordedUsage
  clock: Clock
  leaseMs: number
}

export const dayMs = 86_400_000
/** No epoch has this name: Redis will ask for what it was not told. */
const untold = 'untold'
const retryMs = 1_000
const totalsAtOnce = 100
const claimsAtOnce = 200
const hierarchiesAtOnce = 32

/**
 * Sees to it that Redis hears what this process knows: what it has settled and what it holds. In the background, in the
 * order in which it happened, and again until Redis has heard it.
 */
export class Telling implements AsyncDisposable {
  readonly #options: TellingOptions
  /** Hierarchies of which Redis may not know everything yet. */
  readonly #owing = new Set<HierarchyShare>()
  readonly #underWay = new Set<Promise<void>>()
  #repayment: Timer | null = null

  constructor(options: TellingOptions) {
    this.#options = options
  }

  finish(claim: Claim, end: ClaimEnd): void {
    const { share } = claim
    if (claim.atMs === null) {
      if (end.kind !== 'settled') return
      share.isOwed = true
      if (share.epoch === '') share.epoch = untold
      this.#owe(share)
      return
    }
    for (const { key, type } of claim.plan.windows) {
      const reserved = type === 'REQUEST' ? 1 : claim.tokens
      const counted = end.kind === 'released' ? 0 : type === 'REQUEST' ? 1 : end.tokens
      share.levels.change(key, counted - reserved)
    }
    const untilMs = this.#options.clock.monotonic() + this.#options.leaseMs + windowMemoryMs
    share.unfinished.set(claim, { end, untilMs, isBeingTold: false, isToldAgain: false })
    const told = this.#tellFinished(claim)
      .catch(() => {
        share.isOwed = true
        this.#owe(share)
      })
      .finally(() => this.#underWay.delete(told))
    this.#underWay.add(told)
  }

  /** Asks about a hierarchy; first tells Redis what it has lost of it. */
  async ask(
    share: HierarchyShare,
    name: RedisFunction,
    keys: readonly string[],
    values: readonly (string | number)[],
  ): Promise<RedisAnswer> {
    for (let times = 0; times < 3; times += 1) {
      if (share.introduction !== null) await share.introduction
      const { epoch } = share
      const answer = await this.#options.connection.call(name, keys, [epoch, ...values])
      const [state, wallMs] = answer
      if (state !== 'unknown' && state !== 'moved') return answer
      if (share.epoch !== epoch) continue
      share.introduction ??= this.#introduce(share, state === 'unknown' ? Number(wallMs) : null).finally(() => {
        share.introduction = null
      })
      await share.introduction
    }
    throw new CountersUnavailable('Redis has lost its counters again and again.')
  }

  /** These claims are in flight. One that ends before it is told must not come back. */
  renew(share: HierarchyShare, claims: readonly Claim[]): Promise<void> {
    return this.#tellClaims(share, claims, (claim) => share.claims.has(claim))
  }

  async merge(hierarchy: string, totals: readonly NodeTotal[]): Promise<void> {
    for (let start = 0; start < totals.length; start += totalsAtOnce) {
      const some = totals.slice(start, start + totalsAtOnce)
      const keys = some.map(({ counter }) => dayKey(hierarchy, counter))
      const values = some.flatMap(({ day, node, requests, tokens }) => [day, node, requests, tokens])
      await this.#options.connection.call('merge', keys, values)
    }
  }

  /** Tells, in the background, all that was settled: a server is there again, and nobody knows what it still has. */
  tellAgain(shares: Iterable<HierarchyShare>): void {
    for (const share of shares) {
      if (!share.hasSettled) continue
      share.isOwed = true
      this.#owe(share)
    }
  }

  /** The ledger could not be asked when the hierarchy was lost: what it has is merged once it answers. */
  complete(share: HierarchyShare, wallMs: number): void {
    const { clock } = this.#options
    const completion = async () => {
      const recorded = await this.#recordedTotals(share.hierarchy, wallMs)
      if (recorded === null) return sleep(clock, retryMs)
      await this.merge(share.hierarchy, recorded)
      await this.#open(share, { isWhole: true })
    }
    share.completion ??= completion()
      .catch(() => undefined)
      .finally(() => {
        share.completion = null
      })
  }

  /** Tells once more what there is still to tell. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#repayment?.cancel()
    await Promise.allSettled(this.#underWay)
    await this.#repay()
    this.#repayment?.cancel()
  }

  async #tellFinished(claim: Claim): Promise<void> {
    const { id, share, plan, day, tokens, atMs } = claim
    const unfinished = share.unfinished.get(claim)
    if (unfinished === undefined || unfinished.isBeingTold) return
    const totals = plan.dayCounters.flatMap((counter) => {
      const { requests, tokens } = share.total(day, counter)
      return [requests, tokens]
    })
    unfinished.isBeingTold = true
    try {
      const { node } = this.#options
      const { end } = unfinished
      const used = end.kind === 'released' ? '-' : end.tokens
      const isRecorded = end.kind === 'settled' ? 1 : 0
      const values = [id, atMs ?? 0, day, tokens, plan.spec, used, isRecorded, node, ...totals]
      do {
        unfinished.isToldAgain = false
        await this.ask(share, 'finish', plan.keys, values)
      } while (unfinished.isToldAgain)
      share.unfinished.delete(claim)
    } finally {
      unfinished.isBeingTold = false
    }
  }

  /** `lostAtMs`: Redis's wall clock, where no node has told it anything yet; then the ledger is asked, too. */
  async #introduce(share: HierarchyShare, lostAtMs: number | null): Promise<void> {
    const { hierarchy, epoch } = share
    const recorded = lostAtMs === null ? null : await this.#recordedTotals(hierarchy, lostAtMs)
    await this.merge(hierarchy, [...this.#ownTotals(share), ...(recorded ?? [])])
    const opened = await this.#open(share, { isWhole: recorded !== null })
    share.epoch = String(opened[1])
    const claims = [...share.claims, ...share.unfinished.keys()].filter(({ atMs }) => atMs !== null)
    for (const unfinished of share.unfinished.values()) unfinished.isToldAgain = true
    await this.#tellClaims(share, claims, (claim) => share.claims.has(claim) || share.unfinished.has(claim))
    if (epoch !== '' && epoch !== untold) await this.#recall(share)
    for (const claim of share.unfinished.keys()) this.#tellFinished(claim).catch(() => this.#owe(share))
  }

  async #tellClaims(share: HierarchyShare, claims: readonly Claim[], counts: (claim: Claim) => boolean): Promise<void> {
    const keys = hierarchyKeys(share.hierarchy).common
    for (let start = 0; start < claims.length; start += claimsAtOnce) {
      const texts = claims
        .slice(start, start + claimsAtOnce)
        .filter(counts)
        .map(claimText)
      const answer = await this.#options.connection.call('renew', keys, [share.epoch, this.#options.leaseMs, ...texts])
      // Redis has lost the hierarchy: what it is told then includes these claims.
      if (answer[0] !== 'done' && share.introduction === null) {
        await this.ask(share, 'usage', keys, [])
        return
      }
    }
  }

  /** Windows count at least what they were last known to. */
  async #recall({ hierarchy, levels }: HierarchyShare): Promise<void> {
    const all = [...levels.all()].filter(({ used }) => used > 0)
    for (let start = 0; start < all.length; start += totalsAtOnce) {
      const some = all.slice(start, start + totalsAtOnce)
      const keys = some.map(({ key }) => windowKey(hierarchy, key))
      const values = some.flatMap(({ unit, used, storeMs }) => [unit, used, storeMs])
      await this.#options.connection.call('recall', [hierarchyKeys(hierarchy).record, ...keys], values)
    }
  }

  #open({ hierarchy, seenMs }: HierarchyShare, { isWhole }: { isWhole: boolean }): Promise<RedisAnswer> {
    const values = [randomUUID(), seenMs, isWhole ? 1 : 0]
    return this.#options.connection.call('open', [hierarchyKeys(hierarchy).record], values)
  }

  async #recordedTotals(hierarchy: string, wallMs: number): Promise<NodeTotal[] | null> {
    const sums = await this.#options.recordedUsage({ day: utcDay(wallMs), hierarchy })
    return sums === null ? null : recordedTotals(Math.floor(wallMs / dayMs), sums)
  }

  #ownTotals(share: HierarchyShare): NodeTotal[] {
    return [...share.totals()].map((total) => ({ ...total, node: this.#options.node }))
  }

  #owe(share: HierarchyShare): void {
    this.#owing.add(share)
    this.#repayment ??= this.#options.clock.after(retryMs, () => void this.#repay())
  }

  async #repay(): Promise<void> {
    const owing = [...this.#owing]
    for (let start = 0; start < owing.length; start += hierarchiesAtOnce) {
      const paid = await Promise.all(owing.slice(start, start + hierarchiesAtOnce).map((share) => this.#repayOf(share)))
      if (!paid.includes(true)) break
    }
    this.#repayment = null
    const [next] = this.#owing
    if (next !== undefined) this.#owe(next)
  }

  async #repayOf(share: HierarchyShare): Promise<boolean> {
    try {
      if (share.isOwed) {
        share.isOwed = false
        await this.merge(share.hierarchy, this.#ownTotals(share))
      }
      for (const [claim, { untilMs }] of share.unfinished) {
        if (untilMs > this.#options.clock.monotonic()) await this.#tellFinished(claim)
        else share.unfinished.delete(claim)
      }
      if (!share.isOwed && share.unfinished.size === 0) this.#owing.delete(share)
      return true
    } catch {
      share.isOwed = true
      // To the end of the queue: another server may answer.
      this.#owing.delete(share)
      this.#owing.add(share)
      return false
    }
  }
}

/** What one process has settled of one counter on one day. */
export interface NodeTotal extends Total {
  day: number
  counter: string
  node: string
}

export function recordedTotals(day: number, sums: readonly DaySum[]): NodeTotal[] {
  return sums.map((sum) => ({
    day,
    counter: dayCounter(sum),
    node: sum.node,
    requests: sum.requests,
    tokens: sum.tokens,
  }))
}
