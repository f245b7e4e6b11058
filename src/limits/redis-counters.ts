import type { Metrics } from '../metrics.ts'
import { type Bucket, canRefuse } from './buckets.ts'
import {
  assertCountable,
  type CounterStore,
  type DaySum,
  type DayUsage,
  type Demand,
  type Hold,
  type Level,
  type Taken,
} from './counter-store.ts'
import { type HierarchyShare, ShareTable, type Total } from './hierarchy-share.ts'
import { LeaseTable } from './lease-table.ts'
import type { RecentLevel } from './recent-levels.ts'
import { type Claim, dayCounter, dayKey, hierarchyKeys, planOf } from './redis-claim.ts'
import type { RedisAnswer } from './redis-connection.ts'
import { dayMs, recordedTotals, Telling, type TellingOptions } from './redis-telling.ts'

/**
 * Counters that all nodes share, in Redis or Valkey: n nodes admit together exactly what one would.
 *
 * - One admission is one call of one function over the keys of one hierarchy (`redis-counters.lua`). Redis does nothing
 *   in between, and its clock is the only one.
 * - Windows and reservations live in Redis alone. A reservation that its node does not renew returns with its lease.
 * - The counters of the day are a cache of the record. What this process has settled it knows itself
 *   (`hierarchy-share.ts`), and Redis keeps the sum over all processes of what each has said last. A total only grows:
 *   said twice, late or to a Redis that was emptied, it counts once. Whenever a connection is there again, all is said again.
 * - Settling and releasing are told to Redis in the background, in the order in which they were asked for, and again
 *   until it has heard. What it then no longer needs (the end of a lease that is long over) is dropped; totals never are.
 * - Redis knows each hierarchy by an epoch. One that it does not know, because it was emptied, restarted from an old
 *   copy or replaced by a replica, it does not admit to: the node first tells what the ledger has, what it has settled
 *   itself and what it holds, and asks again. An epoch that the node does not know says that another node did so; it then
 *   tells its own. Where the ledger does not answer, counting goes on with what is known, and it is merged later.
 *
 * The rolling windows of a Redis that was emptied count what is in flight, and at least what each node was last told.
 */
export interface RedisCounters extends CounterStore, AsyncDisposable {
  /** This process's name in the record. */
  readonly node: string
  /**
   * Counts a request that was admitted by this process's own counters, while Redis was away: what it uses will be told.
   * Returns its hold, which this store settles and releases.
   */
  adopt(hold: Hold, demand: Demand): Hold
  /** What this process has settled of the owner's slug on the UTC day. */
  settledHere(counter: { hierarchy: string; owner: string; slug: string; day: string }): Total
  /** What a rolling window counted when it was last told, if that was lately. */
  recentLevel(hierarchy: string, key: string): RecentLevel | null
  /** Names the server that keeps a hierarchy's counters. */
  shardOf(hierarchy: string): string
  /** Rejects with `CountersUnavailable` while the hierarchy's counters do not answer. */
  probe(hierarchy: string): Promise<void>
}

export interface RedisCountersOptions extends Omit<TellingOptions, 'leaseMs'> {
  metrics: Pick<Metrics, 'leasesEnded'>
  leaseMs?: number
}

export function openRedisCounters({ leaseMs = 30_000, ...options }: RedisCountersOptions): RedisCounters {
  return new FunctionCounters({ leaseMs, ...options })
}

const hierarchiesAtOnce = 32

class FunctionCounters implements RedisCounters {
  readonly leaseMs: number
  readonly node: string
  readonly #options: Required<RedisCountersOptions>
  readonly #shares = new ShareTable()
  readonly #leases: LeaseTable<Hold['id'], Claim>
  readonly #telling: Telling
  #lastId = 0

  constructor(options: Required<RedisCountersOptions>) {
    this.leaseMs = options.leaseMs
    this.node = options.node
    this.#options = options
    this.#leases = new LeaseTable(options.leaseMs)
    this.#telling = new Telling(options)
    options.connection.onConnected(() => this.#telling.tellAgain(this.#shares.all()))
  }

  async take({ hierarchy, buckets, tokens }: Demand): Promise<Taken> {
    assertCountable(tokens)
    const { node, clock } = this.#options
    this.#lastId += 1
    const held = { id: `${node}.${this.#lastId}`, hierarchy, node }
    if (buckets.length === 0) return { taken: true, hold: { ...held, admittedAtMs: clock.now() }, levels: [] }

    const share = this.#share(hierarchy)
    const plan = planOf(hierarchy, buckets)
    const values = [held.id, this.leaseMs, tokens, plan.spec]
    const answer = this.#readTaken(await this.#telling.ask(share, 'take', plan.keys, values), share)
    const levels = levelsOf(buckets, answer.figures)
    const { atMs, wallMs, waitMs } = answer
    share.levels.remember(levels, { atMs: clock.monotonic(), storeMs: atMs })
    const refusedBy = buckets[answer.refusing - 1]
    if (refusedBy !== undefined && canRefuse(refusedBy)) {
      return { taken: false, refused: { bucket: refusedBy, retryAfterMs: waitMs < 0 ? null : waitMs }, levels }
    }
    this.#hold({ id: held.id, share, plan, day: Math.floor(wallMs / dayMs), tokens, atMs })
    return { taken: true, hold: { ...held, admittedAtMs: wallMs }, levels }
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
    this.#telling.finish(claim, { kind: 'settled', tokens })
  }

  async abandon({ id }: Hold, tokens: number): Promise<void> {
    assertCountable(tokens)
    const claim = this.#takeClaim(id)
    if (claim !== null) this.#telling.finish(claim, { kind: 'abandoned', tokens })
  }

  async release({ id }: Hold): Promise<void> {
    const claim = this.#takeClaim(id)
    if (claim !== null) this.#telling.finish(claim, { kind: 'released' })
  }

  async renew(holds: readonly Hold[]): Promise<void> {
    const claims = holds.map(({ id }) => this.#takeClaim(id)).filter((claim) => claim !== null)
    for (const claim of claims) this.#hold(claim)
    const inRedis = Map.groupBy(
      claims.filter(({ atMs }) => atMs !== null),
      ({ share }) => share,
    )
    // What is not renewed returns with its lease, and is counted again by the next renewal.
    await Promise.allSettled([...inRedis].map(([share, claims]) => this.#telling.renew(share, claims)))
  }

  async seedDay(day: string, sums: readonly DaySum[]): Promise<void> {
    const number = Date.parse(day) / dayMs
    for (const sum of sums) {
      if (sum.node === this.#options.node) this.#share(sum.hierarchy).raise(number, dayCounter(sum), sum)
    }
    const hierarchies = [...Map.groupBy(sums, ({ hierarchy }) => hierarchy)]
    for (let start = 0; start < hierarchies.length; start += hierarchiesAtOnce) {
      const some = hierarchies.slice(start, start + hierarchiesAtOnce)
      await Promise.all(some.map(([hierarchy, sums]) => this.#telling.merge(hierarchy, recordedTotals(number, sums))))
    }
  }

  async dayUsage(query: {
    hierarchy: string
    owner: string
    slugs: readonly string[]
  }): Promise<Map<string, DayUsage>> {
    const { hierarchy, owner, slugs } = query
    const keys = slugs.map((slug) => dayKey(hierarchy, dayCounter({ owner, slug })))
    const answer = await this.#telling.ask(
      this.#share(hierarchy),
      'usage',
      [...hierarchyKeys(hierarchy).common, ...keys],
      [],
    )
    const [wallMs = 0, ...figures] = answer.slice(1).map(Number)
    const resetAtMs = (Math.floor(wallMs / dayMs) + 1) * dayMs
    const usage = slugs.map((slug, index) => {
      const [requests = 0, tokens = 0] = figures.slice(index * 2, index * 2 + 2)
      return [slug, { requests, tokens, resetAtMs }] as const
    })
    return new Map(usage.filter(([, { requests }]) => requests > 0))
  }

  settledHere({ hierarchy, owner, slug, day }: { hierarchy: string; owner: string; slug: string; day: string }): Total {
    return this.#share(hierarchy).total(Date.parse(day) / dayMs, dayCounter({ owner, slug }))
  }

  recentLevel(hierarchy: string, key: string): RecentLevel | null {
    return this.#share(hierarchy).levels.find(key)
  }

  shardOf(hierarchy: string): string {
    return this.#options.connection.shardOf(hierarchyKeys(hierarchy).record)
  }

  async probe(hierarchy: string): Promise<void> {
    await this.#options.connection.call('usage', hierarchyKeys(hierarchy).common, [''])
  }

  /** Tells what there is still to tell, as far as Redis answers; what it has not heard by then, the ledger has. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#telling[Symbol.asyncDispose]()
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
  /** What the function says of a request, and on the way of the hierarchy. */
  #readTaken([, epoch, ...numbers]: RedisAnswer, share: HierarchyShare) {
    const [isWhole = 1, ended = 0, atMs = 0, wallMs = 0, refusing = 0, waitMs = 0, ...figures] = numbers.map(Number)
    if (share.epoch === '') share.epoch = String(epoch)
    share.seenMs = Math.max(share.seenMs, atMs)
    if (isWhole === 0) this.#telling.complete(share, wallMs)
    if (ended > 0) this.#options.metrics.leasesEnded(ended)
    return { atMs, wallMs, refusing, waitMs, figures }
  }
}

function levelsOf(buckets: readonly Bucket[], figures: readonly number[]): Level[] {
  return buckets.map((bucket, index) => {
    const [used = 0, resetMs = 0] = figures.slice(index * 2)
    return { bucket, used, resetMs }
  })
}
