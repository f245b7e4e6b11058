import type { Bucket } from './buckets.ts'
import type { HierarchyShare } from './hierarchy-share.ts'

/** The keys of a hierarchy that every request needs: all keys of one share a hash tag, and so a server. */
export interface HierarchyKeys {
  record: string
  /** The record's, the leases' and that of leases that have ended, in this order. */
  common: readonly [string, string, string]
}

export function hierarchyKeys(hierarchy: string): HierarchyKeys {
  const record = key(hierarchy, 'record')
  return { record, common: [record, key(hierarchy, 'leases'), key(hierarchy, 'ended')] }
}

/** A day's counters of one group and slug; the function adds the day. */
export function dayKey(hierarchy: string, counter: string): string {
  return key(hierarchy, `day:${counter}:`)
}

export function windowKey(hierarchy: string, bucketKey: string): string {
  return key(hierarchy, `window:${bucketKey}`)
}

/** The name of a group's day counters of one slug, within its hierarchy. Neither ids nor slugs hold a space. */
export function dayCounter({ owner, slug }: Pick<Bucket, 'owner' | 'slug'>): string {
  return `${owner} ${slug}`
}

/** What a request asks of the counters, as the function library reads it. */
export interface Plan {
  /** The common keys and one for each bucket, in their order. */
  keys: readonly string[]
  spec: string
  windows: readonly Pick<Bucket, 'key' | 'type'>[]
  /** The day counters of the buckets of a day, in their order: one may stand here twice. */
  dayCounters: readonly string[]
}

export function planOf(hierarchy: string, buckets: readonly Bucket[]): Plan {
  const daily = buckets.filter(({ unit }) => unit === 'DAY')
  return {
    keys: [
      ...hierarchyKeys(hierarchy).common,
      ...buckets.map((bucket) =>
        bucket.unit === 'DAY' ? dayKey(hierarchy, dayCounter(bucket)) : windowKey(hierarchy, bucket.key),
      ),
    ],
    spec: buckets.map(({ type, unit, threshold }) => `${type[0]}${unit[0]}${threshold ?? '-'}`).join(' '),
    windows: buckets.filter(({ unit }) => unit !== 'DAY'),
    dayCounters: daily.map(dayCounter),
  }
}

/** What this process holds in Redis for one request in flight. */
export interface Claim {
  id: string | number
  share: HierarchyShare
  plan: Plan
  /** The day of admission, in days since the epoch. */
  day: number
  tokens: number
  /** The time of admission on the hierarchy's clock; null: Redis was away, and knows nothing of it. */
  atMs: number | null
}

/** The claim as the function library keeps it: the same text is the same claim. */
export function claimText({ id, atMs, day, tokens, plan }: Claim): string {
  return [id, atMs, day, tokens, plan.spec, ...plan.keys.slice(3)].join('\n')
}

/** A new layout of keys or values takes another number here, so that versions that run side by side do not mix them. */
const layout = 1

function key(hierarchy: string, name: string): string {
  return `tollgate:${layout}:{${hierarchy}}:${name}`
}
