import { type Clock, sleep, utcDay } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Bucket } from './buckets.ts'
import {
  type CounterStore,
  CountersUnavailable,
  type DaySum,
  type DayUsage,
  type Demand,
  type Hold,
  type Taken,
} from './counter-store.ts'
import type { Total } from './hierarchy-share.ts'
import type { MemoryCounters } from './memory-counters.ts'
import type { RecordedUsage } from './recorded-usage.ts'
import { dayCounter } from './redis-claim.ts'
import type { RedisCounters } from './redis-counters.ts'

export const fallbackModes = ['local', 'reject'] as const
export type FallbackMode = (typeof fallbackModes)[number]

export interface FallbackCountersOptions {
  redis: RedisCounters
  /** This process's own counters. */
  memory: MemoryCounters
  mode: FallbackMode
  recordedUsage: RecordedUsage
  /** What the ledger has of a whole day, in pages. */
  recordedDay(day: string): AsyncIterable<readonly DaySum[]>
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'counterStoreHealth' | 'admittedByFallback'>
}

/**
 * Shared counters that go on when Redis does not answer (contract §12). The first call that fails opens a breaker for
 * the server it went to; from then on nobody waits for that server until it answers a probe.
 *
 * - `local`: this process enforces alone, with counters that start from what the ledger and it itself know of the day,
 *   and from what it was last told of the windows.
 * - `reject`: nothing is admitted, `take` rejects with `CountersUnavailable`.
 *
 * What ends meanwhile is remembered and told to Redis when it is back (`redis-telling.ts`); what was admitted here is
 * settled here, and counts towards the day there.
 */
export function openFallbackCounters(options: FallbackCountersOptions): CounterStore & AsyncDisposable {
  return new FallbackCounters(options)
}

const probeMs = 200
/** The ledger is asked again for what others use while this process counts alone. */
const usedElsewhereMs = 10_000

class FallbackCounters implements CounterStore, AsyncDisposable {
  readonly leaseMs: number
  readonly #options: FallbackCountersOptions
  readonly #closed = new AbortController()
  /** The servers that do not answer. */
  readonly #away = new Set<string>()
  /** What other processes have used, by day and hierarchy. */
  readonly #usedElsewhere = new Map<string, UsedElsewhere>()
  /** The day that Redis was not told when it should have been. */
  #untoldDay: string | null = null

  constructor(options: FallbackCountersOptions) {
    this.#options = options
    this.leaseMs = options.redis.leaseMs
  }

  async take(demand: Demand): Promise<Taken> {
    // Who is not counted needs no counters.
    if (demand.buckets.length === 0) return this.#options.redis.take(demand)
    return (await this.#fromRedis(demand.hierarchy, (redis) => redis.take(demand))) ?? this.#takeAlone(demand)
  }

  async settle(hold: Hold, tokens: number): Promise<void> {
    await this.#options.redis.settle(hold, tokens)
    if (wasTakenAlone(hold)) await this.#options.memory.settle(hold, tokens)
  }

  async abandon(hold: Hold, tokens: number): Promise<void> {
    await this.#options.redis.abandon(hold, tokens)
    if (wasTakenAlone(hold)) await this.#options.memory.abandon(hold, tokens)
  }

  async release(hold: Hold): Promise<void> {
    await this.#options.redis.release(hold)
    if (wasTakenAlone(hold)) await this.#options.memory.release(hold)
  }

  async renew(holds: readonly Hold[]): Promise<void> {
    const { redis, memory } = this.#options
    await Promise.all([redis.renew(holds), memory.renew(holds.filter(wasTakenAlone))])
  }

  async seedDay(day: string, sums: readonly DaySum[]): Promise<void> {
    try {
      await this.#options.redis.seedDay(day, sums)
    } catch (error) {
      const [first] = sums
      if (first === undefined || !(error instanceof CountersUnavailable)) throw error
      this.#untoldDay = day
      this.#lost(first.hierarchy, error)
    }
  }

  async dayUsage(query: {
    hierarchy: string
    owner: string
    slugs: readonly string[]
  }): Promise<Map<string, DayUsage>> {
    const { hierarchy, owner, slugs } = query
    const shared = await this.#fromRedis(hierarchy, (redis) => redis.dayUsage(query))
    if (shared !== null) return shared
    const counters = slugs.map((slug) => ({ owner, slug }))
    await this.#seedMemory(hierarchy, counters)
    return this.#options.memory.dayUsage(query)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort()
  }

  /** Null when the server that has the hierarchy is away. */
  async #fromRedis<Answer>(hierarchy: string, ask: (redis: RedisCounters) => Promise<Answer>): Promise<Answer | null> {
    const { redis } = this.#options
    if (this.#away.size > 0 && this.#away.has(redis.shardOf(hierarchy))) return null
    try {
      return await ask(redis)
    } catch (error) {
      if (!(error instanceof CountersUnavailable)) throw error
      this.#lost(hierarchy, error)
      return null
    }
  }

  async #takeAlone(demand: Demand): Promise<Taken> {
    const { redis, memory, mode, metrics } = this.#options
    metrics.admittedByFallback({ mode })
    if (mode === 'reject')
      throw new CountersUnavailable('The shared counters are away, and TOLLGATE_LIMITS_FALLBACK rejects.')
    await this.#seedMemory(
      demand.hierarchy,
      demand.buckets.filter(({ unit }) => unit === 'DAY'),
    )
    for (const bucket of demand.buckets) {
      const level = redis.recentLevel(demand.hierarchy, bucket.key)
      if (level !== null) memory.countAtLeast(bucket, level)
    }
    const taken = await memory.take(demand)
    return taken.taken ? { ...taken, hold: redis.adopt(taken.hold, demand) } : taken
  }

  /** Sets the day's counters to what is known: what others had used, and what this process has settled until now. */
  async #seedMemory(hierarchy: string, counters: readonly Pick<Bucket, 'owner' | 'slug'>[]): Promise<void> {
    const { redis, memory, clock } = this.#options
    const day = utcDay(clock.now())
    const elsewhere = await this.#elsewhere(hierarchy, day)
    const distinct = new Map(counters.map((counter) => [dayCounter(counter), counter]))
    const sums = [...distinct].map(([name, { owner, slug }]) => {
      const here = redis.settledHere({ hierarchy, owner, slug, day })
      const there = elsewhere.get(name) ?? { requests: 0, tokens: 0 }
      const [requests, tokens] = [here.requests + there.requests, here.tokens + there.tokens]
      return { hierarchy, owner, slug, node: '', requests, tokens }
    })
    await memory.seedDay(day, sums)
  }

  /** Waits for the ledger once; later answers take the place of the first when they are there. */
  async #elsewhere(hierarchy: string, day: string): Promise<Map<string, Total>> {
    const nowMs = this.#options.clock.monotonic()
    const key = `${day} ${hierarchy}`
    const known = this.#usedElsewhere.get(key)
    if (known === undefined) {
      const asked = this.#askElsewhere(hierarchy, day).then((totals) => totals ?? new Map())
      this.#usedElsewhere.set(key, { totals: asked, askedMs: nowMs })
      return asked
    }
    if (nowMs - known.askedMs > usedElsewhereMs) {
      known.askedMs = nowMs
      void this.#askElsewhere(hierarchy, day).then((totals) => {
        if (totals !== null) known.totals = Promise.resolve(totals)
      })
    }
    return known.totals
  }

  async #askElsewhere(hierarchy: string, day: string): Promise<Map<string, Total> | null> {
    const { redis, recordedUsage } = this.#options
    const sums = await recordedUsage({ day, hierarchy })
    if (sums === null) return null
    const totals = new Map<string, Total>()
    for (const sum of sums) {
      if (sum.node === redis.node) continue
      const { requests, tokens } = totals.get(dayCounter(sum)) ?? { requests: 0, tokens: 0 }
      totals.set(dayCounter(sum), { requests: requests + sum.requests, tokens: tokens + sum.tokens })
    }
    return totals
  }

  #lost(hierarchy: string, error: CountersUnavailable): void {
    const { redis, mode, log, metrics } = this.#options
    const shard = redis.shardOf(hierarchy)
    if (this.#away.has(shard)) return
    this.#away.add(shard)
    metrics.counterStoreHealth(false)
    log.error({ err: error, shard, mode }, 'the shared limit counters are away')
    void this.#awaitReturn(shard, hierarchy)
  }

  async #awaitReturn(shard: string, hierarchy: string): Promise<void> {
    const { redis, clock, log, metrics } = this.#options
    for (let isBack = false; !isBack; ) {
      await sleep(clock, probeMs, this.#closed.signal)
      if (this.#closed.signal.aborted) return
      isBack = await redis.probe(hierarchy).then(
        () => true,
        () => false,
      )
    }
    this.#away.delete(shard)
    log.info({ shard }, 'the shared limit counters are back')
    if (this.#away.size > 0) return
    this.#usedElsewhere.clear()
    metrics.counterStoreHealth(true)
    await this.#tellDay()
  }

  async #tellDay(): Promise<void> {
    const day = this.#untoldDay
    this.#untoldDay = null
    if (day === null) return
    try {
      for await (const sums of this.#options.recordedDay(day)) await this.seedDay(day, sums)
    } catch (error) {
      this.#untoldDay = day
      this.#options.log.warn({ err: error }, "the shared counters were not told the day's record")
    }
  }
}

interface UsedElsewhere {
  totals: Promise<Map<string, Total>>
  askedMs: number
}

/** Ids of this process's own counters are numbers; Redis's holds have names. */
function wasTakenAlone({ id }: Hold): boolean {
  return typeof id === 'number'
}
