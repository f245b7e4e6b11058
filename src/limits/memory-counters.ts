import type { Clock } from '../clock.ts'
import type { Metrics } from '../metrics.ts'
import { type Bucket, canRefuse, counterKey } from './buckets.ts'
import {
  assertCountable,
  type CounterStore,
  type DaySum,
  type DayUsage,
  type Demand,
  type Hold,
  type Level,
  type Refused,
  type Taken,
} from './counter-store.ts'
import { DayCounter, DayTable } from './day-table.ts'
import { LeaseTable } from './lease-table.ts'
import type { RollingWindow } from './rolling-window.ts'
import { WindowTable } from './window-table.ts'

/**
 * The counters of one process, in its memory. An operation is done when its call returns; its promise is resolved.
 * Windows that nobody uses and days that are over leave by themselves, by whole generations.
 */
export function openMemoryCounters({
  clock,
  metrics = { leasesEnded() {} },
  leaseMs = 30_000,
}: {
  clock: Clock
  metrics?: Pick<Metrics, 'leasesEnded'>
  leaseMs?: number
}): MemoryCounters {
  return new InMemory({ clock, metrics, leaseMs })
}

export interface MemoryCounters extends CounterStore {
  /** A rolling window counts at least `used`, of the time `atMs` of the monotonic clock: somebody else counted it. */
  countAtLeast(bucket: Bucket, level: { used: number; atMs: number }): void
}

class InMemory implements MemoryCounters {
  readonly leaseMs: number
  readonly #clock: Clock
  readonly #metrics: Pick<Metrics, 'leasesEnded'>
  readonly #windows = new WindowTable()
  readonly #days = new DayTable()
  readonly #leases: LeaseTable<Hold['id'], Claim>
  #lastId = 0

  constructor({ clock, metrics, leaseMs }: Required<Parameters<typeof openMemoryCounters>[0]>) {
    this.leaseMs = leaseMs
    this.#clock = clock
    this.#metrics = metrics
    this.#leases = new LeaseTable(leaseMs)
  }

  async take({ hierarchy, buckets, tokens }: Demand): Promise<Taken> {
    assertCountable(tokens)
    const now = this.#now()
    this.#giveBackEnded(now)

    const parts = buckets.map((bucket) => this.#part(bucket, tokens, now))
    const refused = longestWait(parts, now)
    if (refused !== null) return { taken: false, refused, levels: levels(parts, now) }

    this.#lastId += 1
    const hold = { id: this.#lastId, hierarchy, node: '', admittedAtMs: now.wallMs }
    const claim = { parts, admittedMs: now.monotonicMs }
    takeAll(claim, now)
    this.#leases.hold(hold.id, claim, now.monotonicMs)
    return { taken: true, hold, levels: levels(parts, now) }
  }

  async settle({ id }: Hold, tokens: number): Promise<void> {
    this.#settle(id, { tokens, isRecorded: true })
  }

  async abandon({ id }: Hold, tokens: number): Promise<void> {
    this.#settle(id, { tokens, isRecorded: false })
  }

  async release({ id }: Hold): Promise<void> {
    const live = this.#leases.takeLive(id)
    if (live === null) this.#leases.takeEnded(id)
    else giveBackAll(live, this.#now())
  }

  async renew(holds: readonly Hold[]): Promise<void> {
    const now = this.#now()
    for (const { id } of holds) {
      const live = this.#leases.takeLive(id)
      const claim = live ?? this.#leases.takeEnded(id)
      if (claim === null) continue
      if (live === null) takeAll(claim, now)
      this.#leases.hold(id, claim, now.monotonicMs)
    }
  }

  async seedDay(name: string, sums: readonly DaySum[]): Promise<void> {
    const day = this.#days.day(Date.parse(name))
    const settled = new Map<string, number>()
    for (const { owner, slug, requests, tokens } of sums) {
      for (const [type, amount] of [['REQUEST', requests] as const, ['TOKEN', tokens] as const]) {
        const key = counterKey({ owner, slug, type, unit: 'DAY' })
        settled.set(key, amount + (settled.get(key) ?? 0))
      }
    }
    for (const [key, amount] of settled) day.counter(key).seed(amount)
  }

  countAtLeast({ key, unit }: Bucket, { used, atMs }: { used: number; atMs: number }): void {
    if (unit === 'DAY') return
    const nowMs = this.#clock.monotonic()
    const window = this.#windows.window(key, unit, nowMs)
    window.count(Math.max(0, used - window.used(nowMs)), atMs, nowMs)
  }

  async dayUsage({ owner, slugs }: { owner: string; slugs: readonly string[] }): Promise<Map<string, DayUsage>> {
    const now = this.#now()
    this.#giveBackEnded(now)

    const day = this.#days.day(now.wallMs)
    const usage = new Map<string, DayUsage>()
    for (const slug of slugs) {
      const requests = day.find(counterKey({ owner, slug, type: 'REQUEST', unit: 'DAY' }))?.used() ?? 0
      const tokens = day.find(counterKey({ owner, slug, type: 'TOKEN', unit: 'DAY' }))?.settled ?? 0
      if (requests > 0) usage.set(slug, { requests, tokens, resetAtMs: day.endsAtMs })
    }
    return usage
  }

  #now(): Now {
    return { monotonicMs: this.#clock.monotonic(), wallMs: this.#clock.now() }
  }

  #part(bucket: Bucket, tokens: number, { monotonicMs, wallMs }: Now): Part {
    const { key, type, unit } = bucket
    const counter = unit === 'DAY' ? this.#days.day(wallMs).counter(key) : this.#windows.window(key, unit, monotonicMs)
    return { bucket, counter, amount: type === 'REQUEST' ? 1 : tokens }
  }

  #settle(id: Hold['id'], { tokens, isRecorded }: { tokens: number; isRecorded: boolean }): void {
    assertCountable(tokens)
    const live = this.#leases.takeLive(id)
    const claim = live ?? this.#leases.takeEnded(id)
    if (claim !== null) settleAll(claim, { tokens, isRecorded, isHeld: live !== null }, this.#now())
  }

  #giveBackEnded(now: Now): void {
    const ended = this.#leases.end(now.monotonicMs)
    for (const claim of ended) giveBackAll(claim, now)
    if (ended.length > 0) this.#metrics.leasesEnded(ended.length)
  }
}

interface Now {
  monotonicMs: number
  wallMs: number
}

/** What a request takes of one counter. */
interface Part {
  bucket: Bucket
  counter: RollingWindow | DayCounter
  amount: number
}

/** What a request takes, and when it was admitted on the monotonic clock. */
interface Claim {
  parts: readonly Part[]
  admittedMs: number
}

function longestWait(parts: readonly Part[], now: Now): Refused | null {
  let refused: Refused | null = null
  let longestMs = 0
  for (const { bucket, counter, amount } of parts) {
    if (!canRefuse(bucket)) continue
    const waitMs = counter.fitsAfterMs(amount, bucket.threshold, timeOf(counter, now))
    if (waitMs <= longestMs) continue
    longestMs = waitMs
    refused = { bucket, retryAfterMs: Number.isFinite(waitMs) ? waitMs : null }
  }
  return refused
}

function levels(parts: readonly Part[], now: Now): Level[] {
  return parts.map(({ bucket, counter }) => {
    const nowMs = timeOf(counter, now)
    return { bucket, used: counter.used(nowMs), resetMs: counter.emptyAfterMs(nowMs) }
  })
}

function takeAll({ parts, admittedMs }: Claim, { monotonicMs }: Now): void {
  for (const { counter, amount } of parts) counter.count(amount, admittedMs, monotonicMs)
}

function giveBackAll({ parts, admittedMs }: Claim, { monotonicMs }: Now): void {
  for (const { counter, amount } of parts) counter.count(-amount, admittedMs, monotonicMs)
}

/** Puts what was used in the place of what was taken, which is still held or has been given back. */
function settleAll(
  { parts, admittedMs }: Claim,
  { tokens, isRecorded, isHeld }: { tokens: number; isRecorded: boolean; isHeld: boolean },
  { monotonicMs }: Now,
): void {
  for (const { bucket, counter, amount } of parts) {
    const counts = isRecorded || !(counter instanceof DayCounter)
    const used = counts ? (bucket.type === 'REQUEST' ? 1 : tokens) : 0
    const change = used - (isHeld ? amount : 0)
    if (change !== 0) counter.count(change, admittedMs, monotonicMs)
    if (counter instanceof DayCounter) counter.settled += used
  }
}

/** Days go by the wall clock, windows by the one that never goes back. */
function timeOf(counter: Part['counter'], { monotonicMs, wallMs }: Now): number {
  return counter instanceof DayCounter ? wallMs : monotonicMs
}
