import fc from 'fast-check'
import { utcDay } from '../../src/clock.ts'
import { type Bucket, type BucketSet, bucketSet } from '../../src/limits/buckets.ts'
import type { CounterStore, Hold, Taken } from '../../src/limits/counter-store.ts'
import {
  bySlug,
  type LimitEnforcement,
  limitTypes,
  type ModelLimits,
  rateLimitUnits,
  usageLimitUnits,
} from '../../src/limits/effective-limits.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { ManualClock } from './manual-clock.ts'

/** Two leaves below a middle group below a root; each of them makes requests. */
export const groupNames = ['root', 'middle', 'left', 'right'] as const
export type GroupName = (typeof groupNames)[number]
const paths = {
  root: ['root'],
  middle: ['middle', 'root'],
  left: ['left', 'middle', 'root'],
  right: ['right', 'middle', 'root'],
} satisfies Record<GroupName, GroupName[]>

const slug = 'lab/model'
const startsAt = Date.parse('2026-01-15T12:00:00Z')

export type Action =
  | { kind: 'request'; group: GroupName; tokens: number }
  | { kind: 'settle'; pick: number; tokens: number }
  | { kind: 'abandon'; pick: number; tokens: number }
  | { kind: 'release'; pick: number }
  | { kind: 'renew'; pick: number }
  | { kind: 'pass'; ms: number }
  /** The wall clock is set to so many hours from noon: the same day, the one before or the one after. */
  | { kind: 'jump'; hours: number }
  | { kind: 'configure'; group: GroupName; limits: Limits }

export type Limits = Omit<ModelLimits, 'slug'>

const anyGroup = fc.constantFrom(...groupNames)
const anyTokens = fc.nat(60)
const anyPick = fc.nat(50)

/** Room for a few requests or for the tokens of a few; now and then for none. */
const anyLimit = <Unit>(units: readonly Unit[]) =>
  fc
    .record({
      type: fc.constantFrom(...limitTypes),
      unit: fc.constantFrom(...units),
      requests: fc.oneof(
        { weight: 20, arbitrary: fc.integer({ min: 1, max: 6 }) },
        { weight: 1, arbitrary: fc.constant(0) },
      ),
    })
    .map(({ type, unit, requests }) => ({ type, unit, threshold: type === 'REQUEST' ? requests : requests * 58 }))

const anyLimits: fc.Arbitrary<Limits> = fc.record({
  rate_limits: fc.uniqueArray(anyLimit(rateLimitUnits), { selector: ({ type }) => type }),
  usage_limits: fc.uniqueArray(anyLimit(usageLimitUnits), { selector: ({ type }) => type, maxLength: 1 }),
})

export const anyConfiguration: fc.Arbitrary<Record<GroupName, Limits>> = fc.record({
  root: anyLimits,
  middle: anyLimits,
  left: anyLimits,
  right: anyLimits,
})

const kind = <Kind extends Action['kind']>(value: Kind) => fc.constant(value)
const anyAction: fc.Arbitrary<Action> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ kind: kind('request'), group: anyGroup, tokens: anyTokens }) },
  { weight: 3, arbitrary: fc.record({ kind: kind('settle'), pick: anyPick, tokens: fc.nat(120) }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('abandon'), pick: anyPick, tokens: fc.nat(120) }) },
  { weight: 2, arbitrary: fc.record({ kind: kind('release'), pick: anyPick }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('renew'), pick: anyPick }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: kind('pass'),
      // Quarters of a millisecond: a real clock does not tick in whole ones.
      ms: fc.oneof(fc.nat(400), fc.nat(4_000), fc.nat(80_000), fc.nat(260_000)).map((quarters) => quarters / 4),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: kind('jump'), hours: fc.integer({ min: -20, max: 20 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('configure'), group: anyGroup, limits: anyLimits }) },
)

export const anyActions = fc.array(anyAction, { minLength: 1, maxLength: 60, size: 'max' })

/** The book's entry of a request that was admitted, and what counts of it now. */
interface Entry {
  hold: Hold
  buckets: readonly Bucket[]
  atMs: number
  day: string
  reserved: number
  leaseEndsAtMs: number
  state: 'in flight' | 'lease ended' | 'settled' | 'abandoned' | 'released'
  requests: number
  tokens: number
}

export interface Requested {
  buckets: readonly Bucket[]
  tokens: number
  taken: Taken
}

export interface SimulationOptions {
  configuration: Record<GroupName, Limits>
  enforcement: LimitEnforcement
  leaseMs: number
  /** The store under test, which goes by the simulation's clock once `passed` has told it; memory when left out. */
  store?: { counters: CounterStore; clock: ManualClock; passed: () => Promise<void> }
}

/** Plays actions against a store and keeps book of them the plain way: a list of all that was ever admitted. */
export class Simulation {
  readonly clock: ManualClock
  readonly counters: CounterStore
  readonly book: Entry[] = []
  readonly #enforcement: LimitEnforcement
  readonly #limits: Record<GroupName, Limits>
  readonly #passed: () => Promise<void>

  constructor({ configuration, enforcement, leaseMs, store }: SimulationOptions) {
    this.#limits = { ...configuration }
    this.#enforcement = enforcement
    this.clock = store?.clock ?? new ManualClock(startsAt)
    this.counters = store?.counters ?? openMemoryCounters({ clock: this.clock, leaseMs })
    this.#passed = store?.passed ?? (async () => {})
  }

  /** What a request was answered; null for the other actions. */
  async perform(action: Action): Promise<Requested | null> {
    switch (action.kind) {
      case 'request':
        return this.request(action.group, action.tokens)
      case 'settle':
        await this.#withPicked(action.pick, (entry) => this.#settle(entry, action.tokens))
        return null
      case 'abandon':
        await this.#withPicked(action.pick, (entry) => this.#abandon(entry, action.tokens))
        return null
      case 'release':
        await this.#withPicked(action.pick, (entry) => this.#release(entry))
        return null
      case 'renew':
        await this.#withPicked(action.pick, (entry) => this.#renew(entry))
        return null
      case 'pass':
        this.clock.advance(action.ms)
        await this.#passed()
        return null
      case 'jump':
        this.clock.jumpTo(startsAt + action.hours * 3_600_000)
        return null
      case 'configure':
        this.#limits[action.group] = action.limits
        return null
    }
  }

  async request(group: GroupName, tokens: number): Promise<Requested> {
    const { hierarchy, buckets } = this.buckets(group)
    const taken = await this.counters.take({ hierarchy, buckets, tokens })
    if (taken.taken) {
      this.book.push({
        hold: taken.hold,
        buckets,
        atMs: this.clock.monotonic(),
        day: this.today(),
        reserved: tokens,
        leaseEndsAtMs: this.clock.monotonic() + this.counters.leaseMs,
        state: 'in flight',
        requests: 1,
        tokens,
      })
    }
    return { buckets, tokens, taken }
  }

  buckets(group: GroupName): BucketSet {
    const path = paths[group].map((id) => ({ id, models: bySlug([{ slug, ...this.#limits[id] }]) }))
    return bucketSet(this.#enforcement, path, slug)
  }

  today(): string {
    return utcDay(this.clock.now())
  }

  /** What the book says that a bucket has counted in the last `ms`; for a day's bucket, today. */
  held({ key, type, unit }: Bucket, ms: number): number {
    this.#endLeases()
    const sinceMs = this.clock.monotonic() - ms
    return this.book
      .filter(({ buckets }) => buckets.some((bucket) => bucket.key === key))
      .filter(({ atMs, day, state }) =>
        unit === 'DAY' ? day === this.today() && state !== 'abandoned' : atMs >= sinceMs,
      )
      .reduce((sum, { requests, tokens }) => sum + (type === 'REQUEST' ? requests : tokens), 0)
  }

  /** What the book says that the group's usage of today is. */
  usageToday(group: GroupName): { requests: number; tokens: number } {
    this.#endLeases()
    const today = this.book.filter(
      ({ day, buckets, state }) =>
        state !== 'abandoned' &&
        day === this.today() &&
        buckets.some(({ owner, unit }) => owner === group && unit === 'DAY'),
    )
    return {
      requests: today.reduce((sum, { requests }) => sum + requests, 0),
      tokens: today.filter(({ state }) => state === 'settled').reduce((sum, { tokens }) => sum + tokens, 0),
    }
  }

  async #withPicked(pick: number, act: (entry: Entry) => Promise<void>): Promise<void> {
    const entry = this.book[pick % Math.max(1, this.book.length)]
    if (entry !== undefined) await act(entry)
  }

  async #settle(entry: Entry, tokens: number): Promise<void> {
    await this.counters.settle(entry.hold, tokens)
    if (isOver(entry)) return
    Object.assign(entry, { state: 'settled', requests: 1, tokens })
  }

  async #abandon(entry: Entry, tokens: number): Promise<void> {
    await this.counters.abandon(entry.hold, tokens)
    if (isOver(entry)) return
    Object.assign(entry, { state: 'abandoned', requests: 1, tokens })
  }

  async #release(entry: Entry): Promise<void> {
    await this.counters.release(entry.hold)
    if (isOver(entry)) return
    Object.assign(entry, { state: 'released', requests: 0, tokens: 0 })
  }

  async #renew(entry: Entry): Promise<void> {
    await this.counters.renew([entry.hold])
    if (isOver(entry)) return
    const leaseEndsAtMs = this.clock.monotonic() + this.counters.leaseMs
    Object.assign(entry, { state: 'in flight', requests: 1, tokens: entry.reserved, leaseEndsAtMs })
  }

  #endLeases(): void {
    for (const entry of this.book) {
      if (entry.state !== 'in flight' || entry.leaseEndsAtMs > this.clock.monotonic()) continue
      Object.assign(entry, { state: 'lease ended', requests: 0, tokens: 0 })
    }
  }
}

function isOver({ state }: Entry): boolean {
  return state === 'settled' || state === 'abandoned' || state === 'released'
}
