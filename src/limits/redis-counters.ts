import { type Clock, sleep, type Timer, utcDay } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { type Bucket, canRefuse } from './buckets.ts'
import {
  assertCountable,
  type CounterStore,
  CountersUnavailable,
  type DaySum,
  type DayUsage,
  type Demand,
  type Hold,
  type Level,
  type Taken,
} from './counter-store.ts'
import { type HierarchyShare, ShareTable, type Total } from './hierarchy-share.ts'
import { LeaseTable } from './lease-table.ts'
import { type Claim, claimText, dayCounter, dayKey, hierarchyKeys, planOf } from './redis-claim.ts'
import type { RedisAnswer, RedisConnection, RedisFunction } from './redis-connection.ts'
import { windowMemoryMs } from './rolling-window.ts'

/**
 * Counters that all nodes share, in Redis or Valkey: n nodes admit together exactly what one would.
 *
 * - One admission is one call of one function over the keys of one hierarchy (`redis-counters.lua`). Redis does nothing
 *   in between, and its clock is the only one.
 * - Windows and reservations live in Redis alone. A reservation that its node does not renew returns with its lease.
 * - The counters of the day are a cache of the record. What this process has settled it knows itself
 *   (`hierarchy-share.ts`), and Redis keeps the sum over all processes of what each has said last. A total only grows:
 *   said twice, late or to a Redis that was emptied, it counts once.
 * - Settling and releasing are told to Redis in the background, in the order in which they were asked for, and again
 *   until it has heard. What it then no longer needs (the end of a lease that is long over) is dropped; totals never are.
 * - Redis knows each hierarchy by an epoch. One that it does not know, because it was emptied, restarted from an old
 *   copy or replaced by a replica, it does not admit to: the node first tells what the ledger has, what it has settled
 *   itself and what it holds, and asks again. An epoch that the node does not know says that another node did so; it then
 *   tells its own. Where the ledger does not answer, counting goes on with what is known, and it is merged later.
 *
 * Not known to a Redis that was emptied: what was settled within the last second or minute, in the rolling windows alone.
 */
export interface RedisCounters extends CounterStore, AsyncDisposable {
  /**
   * Counts a request that was admitted by this process's own counters, while Redis was away: what it uses will be told.
   * Returns its hold, which this store settles and releases.
   */
  adopt(hold: Hold, demand: Demand): Hold
  /** What this process has settled of the owner's slug on the UTC day. */
  settledHere(counter: { hierarchy: string; owner: string; slug: string; day: string }): Total
  /** Names the server that keeps a hierarchy's counters. */
  shardOf(hierarchy: string): string
  /** Rejects with `CountersUnavailable` while the hierarchy's counters do not answer. */
  probe(hierarchy: string): Promise<void>
}

export interface RedisCountersOptions {
  connection: RedisConnection
  /** This process's name in the record: no other process, now or later, has it. */
  node: string
  /** What the ledger has of a hierarchy's day. */
  recordedUsage(query: { day: string; hierarchy: string }): Promise<readonly DaySum[]>
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'leasesEnded'>
  leaseMs?: number
}

export function openRedisCounters(options: RedisCountersOptions): RedisCounters {
  return new FunctionCounters(options)
}

const dayMs = 86_400_000
const retryMs = 1_000
const recordedUsageMs = 1_000
const totalsAtOnce = 100
const claimsAtOnce = 200
const hierarchiesAtOnce = 32

class FunctionCounters implements RedisCounters {
  readonly leaseMs: number
  readonly #options: RedisCountersOptions
  readonly #shares = new ShareTable()
  readonly #leases: LeaseTable<Hold['id'], Claim>
  /** Hierarchies of which Redis may not know everything yet. */
  readonly #owing = new Set<HierarchyShare>()
  readonly #telling = new Set<Promise<void>>()
  #repayment: Timer | null = null
  #lastId = 0

  constructor(options: RedisCountersOptions) {
    this.leaseMs = options.leaseMs ?? 30_000
    this.#options = options
    this.#leases = new LeaseTable(this.leaseMs)
  }

  async take({ hierarchy, buckets, tokens }: Demand): Promise<Taken> {
    assertCountable(tokens)
    const { node, clock, metrics } = this.#options
    this.#lastId += 1
    const id = `${node}.${this.#lastId}`
    if (buckets.length === 0)
      return { taken: true, hold: { id, hierarchy, node, admittedAtMs: clock.now() }, levels: [] }

    const share = this.#share(hierarchy)
    const plan = planOf(hierarchy, buckets)
    const answer = await this.#ask(share, 'take', plan.keys, [id, this.leaseMs, tokens, plan.spec])
    const [, epoch, isWhole, ended, atMs, wallMs, refusing, waitMs] = answer.map(Number)
    if (share.epoch === '') share.epoch = String(answer[1] ?? epoch)
    share.seenMs = Math.max(share.seenMs, Number(atMs))
    if (isWhole === 0) this.#complete(share, Number(wallMs))
    if (ended !== undefined && ended > 0) metrics.leasesEnded(ended)

    const levels = levelsOf(buckets, answer.slice(8))
    const refusedBy = buckets[Number(refusing) - 1]
    if (refusedBy !== undefined && canRefuse(refusedBy)) {
      const retryAfterMs = waitMs === undefined || waitMs < 0 ? null : waitMs
      return { taken: false, refused: { bucket: refusedBy, retryAfterMs }, levels }
    }
    const admittedAtMs = Number(wallMs)
    this.#hold({ id, share, plan, day: Math.floor(admittedAtMs / dayMs), tokens, atMs: Number(atMs) })
    return { taken: true, hold: { id, hierarchy, node, admittedAtMs }, levels }
  }

  adopt({ id, hierarchy, admittedAtMs }: Hold, { buckets, tokens }: Demand): Hold {
    const share = this.#share(hierarchy)
    const plan = planOf(hierarchy, buckets)
    this.#hold({ id, share, plan, day: Math.floor(admittedAtMs / dayMs), tokens, atMs: null })
    return { id, hierarchy, node: this.#options.node, admittedAtMs }
  }

  async settle({ id }: Hold, tokens: number): Promise<void> {
    assertCountable(tokens)
    const claim = this.#takeClaim(id)
    if (claim === null) return
    claim.share.add(claim.day, claim.plan.dayCounters, tokens)
    this.#finish(claim, tokens)
  }

  async release({ id }: Hold): Promise<void> {
    const claim = this.#takeClaim(id)
    if (claim !== null) this.#finish(claim, null)
  }

  async renew(holds: readonly Hold[]): Promise<void> {
    const claims = holds.map(({ id }) => this.#takeClaim(id)).filter((claim) => claim !== null)
    for (const claim of claims) this.#hold(claim)
    const inRedis = Map.groupBy(
      claims.filter(({ atMs }) => atMs !== null),
      ({ share }) => share,
    )
    // What is not renewed returns with its lease, and is counted again by the next renewal.
    await Promise.allSettled([...inRedis].map(([share, claims]) => this.#renew(share, claims)))
  }

  async seedDay(day: string, sums: readonly DaySum[]): Promise<void> {
    const number = Date.parse(day) / dayMs
    for (const sum of sums) {
      if (sum.node === this.#options.node) this.#share(sum.hierarchy).raise(number, dayCounter(sum), sum)
    }
    const hierarchies = [...Map.groupBy(sums, ({ hierarchy }) => hierarchy)]
    for (let start = 0; start < hierarchies.length; start += hierarchiesAtOnce) {
      const some = hierarchies.slice(start, start + hierarchiesAtOnce)
      await Promise.all(some.map(([hierarchy, sums]) => this.#merge(hierarchy, recordedTotals(number, sums))))
    }
  }

  async dayUsage(query: {
    hierarchy: string
    owner: string
    slugs: readonly string[]
  }): Promise<Map<string, DayUsage>> {
    const { hierarchy, owner, slugs } = query
    const keys = slugs.map((slug) => dayKey(hierarchy, dayCounter({ owner, slug })))
    const answer = await this.#ask(this.#share(hierarchy), 'usage', [...hierarchyKeys(hierarchy).common, ...keys], [])
    const [wallMs = 0, ...figures] = answer.slice(1).map(Number)
    const resetAtMs = (Math.floor(wallMs / dayMs) + 1) * dayMs
    const usage = slugs.map((slug, index) => {
      const [requests = 0, tokens = 0] = figures.slice(index * 2)
      return [slug, { requests, tokens, resetAtMs }] as const
    })
    return new Map(usage.filter(([, { requests }]) => requests > 0))
  }

  settledHere({ hierarchy, owner, slug, day }: { hierarchy: string; owner: string; slug: string; day: string }): Total {
    return this.#share(hierarchy).total(Date.parse(day) / dayMs, dayCounter({ owner, slug }))
  }

  shardOf(hierarchy: string): string {
    return this.#options.connection.shardOf(hierarchyKeys(hierarchy).record)
  }

  async probe(hierarchy: string): Promise<void> {
    await this.#options.connection.call('usage', hierarchyKeys(hierarchy).common, [''])
  }

  /** Tells what there is still to tell, as far as Redis answers; what it has not heard by then, the ledger has. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#repayment?.cancel()
    await Promise.allSettled(this.#telling)
    await this.#repay()
  }

  #share(hierarchy: string): HierarchyShare {
    const nowMs = this.#options.clock.monotonic()
    for (const claim of this.#leases.end(nowMs)) claim.share.claims.delete(claim)
    return this.#shares.share(hierarchy, nowMs)
  }

  #hold(claim: Claim): void {
    this.#leases.hold(claim.id, claim, this.#options.clock.monotonic())
    claim.share.claims.add(claim)
  }

  #takeClaim(id: Hold['id']): Claim | null {
    const claim = this.#leases.takeLive(id) ?? this.#leases.takeEnded(id)
    claim?.share.claims.delete(claim)
    return claim
  }

  /** `used`: tokens, or null for a request that was not served. */
  #finish(claim: Claim, used: number | null): void {
    const { share } = claim
    if (claim.atMs === null) {
      if (used === null) return
      share.isOwed = true
      // No epoch has this name: Redis will ask for what it was not told.
      if (share.epoch === '') share.epoch = 'untold'
      this.#owe(share)
      return
    }
    const told = this.#tellFinished(claim, used)
      .catch(() => {
        share.unfinished.set(claim, { used, untilMs: this.#options.clock.monotonic() + this.leaseMs + windowMemoryMs })
        share.isOwed = true
        this.#owe(share)
      })
      .finally(() => this.#telling.delete(told))
    this.#telling.add(told)
  }

  async #tellFinished({ id, share, plan, day, tokens, atMs }: Claim, used: number | null): Promise<void> {
    const { connection, node } = this.#options
    const totals = plan.dayCounters.flatMap((counter) => {
      const { requests, tokens } = share.total(day, counter)
      return [requests, tokens]
    })
    await connection.call('finish', plan.keys, [id, atMs ?? 0, day, tokens, plan.spec, used ?? '-', node, ...totals])
  }

  /** Asks about a hierarchy; first tells Redis what it has lost of it. */
  async #ask(
    share: HierarchyShare,
    name: RedisFunction,
    keys: readonly string[],
    values: readonly (string | number)[],
  ): Promise<RedisAnswer> {
    for (let times = 0; times < 3; times += 1) {
      const answer = await this.#options.connection.call(name, keys, [share.epoch, ...values])
      const [state, wallMs] = answer
      if (state !== 'unknown' && state !== 'moved') return answer
      share.introduction ??= this.#introduce(share, state === 'unknown' ? Number(wallMs) : null).finally(() => {
        share.introduction = null
      })
      await share.introduction
    }
    throw new CountersUnavailable('Redis has lost its counters again and again.')
  }

  /** `lostAtMs`: Redis's wall clock, where no node has told it anything yet; then the ledger is asked, too. */
  async #introduce(share: HierarchyShare, lostAtMs: number | null): Promise<void> {
    const { hierarchy } = share
    const recorded = lostAtMs === null ? null : await this.#recordedTotals(hierarchy, lostAtMs)
    await this.#merge(hierarchy, [...this.#ownTotals(share), ...(recorded ?? [])])
    const opened = await this.#open(share, { isWhole: recorded !== null })
    share.epoch = String(opened[1])
    await this.#renew(
      share,
      [...share.claims].filter(({ atMs }) => atMs !== null),
    )
  }

  #open({ hierarchy, seenMs }: HierarchyShare, { isWhole }: { isWhole: boolean }): Promise<RedisAnswer> {
    return this.#options.connection.call('open', [hierarchyKeys(hierarchy).record], [seenMs, isWhole ? 1 : 0])
  }

  /** The ledger could not be asked when the hierarchy was lost: what it has is merged once it answers. */
  #complete(share: HierarchyShare, wallMs: number): void {
    const { clock } = this.#options
    const completion = async () => {
      const recorded = await this.#recordedTotals(share.hierarchy, wallMs)
      if (recorded === null) return sleep(clock, retryMs)
      await this.#merge(share.hierarchy, recorded)
      await this.#open(share, { isWhole: true })
    }
    share.completion ??= completion()
      .catch(() => undefined)
      .finally(() => {
        share.completion = null
      })
  }

  async #recordedTotals(hierarchy: string, wallMs: number): Promise<NodeTotal[] | null> {
    const { recordedUsage, clock, log } = this.#options
    const late = new AbortController()
    const asked = recordedUsage({ day: utcDay(wallMs), hierarchy }).catch((error: unknown) => {
      log.warn({ err: error }, 'the ledger cannot say what was used today; it is asked again')
      return null
    })
    const sums = await Promise.race([asked, sleep(clock, recordedUsageMs, late.signal).then(() => null)])
    late.abort()
    return sums === null ? null : recordedTotals(Math.floor(wallMs / dayMs), sums)
  }

  #ownTotals(share: HierarchyShare): NodeTotal[] {
    return [...share.totals()].map((total) => ({ ...total, node: this.#options.node }))
  }

  async #merge(hierarchy: string, totals: readonly NodeTotal[]): Promise<void> {
    for (let start = 0; start < totals.length; start += totalsAtOnce) {
      const some = totals.slice(start, start + totalsAtOnce)
      const keys = some.map(({ counter }) => dayKey(hierarchy, counter))
      const values = some.flatMap(({ day, node, requests, tokens }) => [day, node, requests, tokens])
      await this.#options.connection.call('merge', keys, values)
    }
  }

  async #renew(share: HierarchyShare, claims: readonly Claim[]): Promise<void> {
    const keys = hierarchyKeys(share.hierarchy).common
    for (let start = 0; start < claims.length; start += claimsAtOnce) {
      const texts = claims.slice(start, start + claimsAtOnce).map(claimText)
      const answer = await this.#options.connection.call('renew', keys, [share.epoch, this.leaseMs, ...texts])
      // Redis has lost the hierarchy: what it is told then includes these claims.
      if (answer[0] !== 'done' && share.introduction === null) {
        await this.#ask(share, 'usage', keys, [])
        return
      }
    }
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
        await this.#merge(share.hierarchy, this.#ownTotals(share))
      }
      for (const [claim, { used, untilMs }] of share.unfinished) {
        if (untilMs > this.#options.clock.monotonic()) await this.#tellFinished(claim, used)
        share.unfinished.delete(claim)
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
interface NodeTotal extends Total {
  day: number
  counter: string
  node: string
}

function recordedTotals(day: number, sums: readonly DaySum[]): NodeTotal[] {
  return sums.map((sum) => ({
    day,
    counter: dayCounter(sum),
    node: sum.node,
    requests: sum.requests,
    tokens: sum.tokens,
  }))
}

function levelsOf(buckets: readonly Bucket[], figures: RedisAnswer): Level[] {
  return buckets.map((bucket, index) => ({
    bucket,
    used: Number(figures[index * 2]),
    resetMs: Number(figures[index * 2 + 1]),
  }))
}
