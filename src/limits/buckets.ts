import {
  effectiveModel,
  type GroupOnPath,
  type LimitEnforcement,
  type LimitType,
  limitTypes,
  type RateLimitUnit,
  type UsageLimitUnit,
} from './effective-limits.ts'

/**
 * All counters that a request of one group for one slug is counted by. Computed once per group and slug and
 * kept: admission makes no strings and looks at no tree.
 */
export interface BucketSet {
  /** The root group's id: a store keeps the counters of one hierarchy together, to take from them in one step. */
  hierarchy: string
  buckets: readonly Bucket[]
}

/** A counter, and what it is held to. */
export interface Bucket {
  /** The counter's identity, without the threshold: a new threshold meets the count as it stands. */
  key: string
  /** The group that is counted. */
  owner: string
  slug: string
  type: LimitType
  unit: RateLimitUnit | UsageLimitUnit
  /** Null: counted, never refused. */
  threshold: number | null
  /** Who declared the limit: the calling group, or one above it. */
  scope: 'group' | 'parent'
  limit: 'rate' | 'usage'
}

/** A bucket that can refuse. */
export interface LimitBucket extends Bucket {
  threshold: number
}

/**
 * The buckets of a request that the group at the start of `path` makes for `slug`: one for every effective limit,
 * and the day's requests and tokens of every counted group whether limited or not, so that the day's counters equal
 * the billing record also when a daily limit is added at noon.
 *
 * INDEPENDENT counts the calling group alone, also where the limit was inherited; CASCADING counts by the group that
 * declared the limit (contract §12). Throws when the group does not list `slug`: nothing says what limits such a request.
 */
export function bucketSet(enforcement: LimitEnforcement, path: readonly GroupOnPath[], slug: string): BucketSet {
  const group = path.at(0)
  const root = path.at(-1)
  if (group === undefined || root === undefined || !group.models.has(slug)) {
    throw new Error(`Group ${group?.id} does not list ${slug}, so nothing says what limits a request for it.`)
  }

  const toBucket = (
    limit: Bucket['limit'],
    { type, unit, threshold, source_group }: Pick<Bucket, 'type' | 'unit' | 'threshold'> & { source_group: string },
  ): Bucket => {
    const owner = enforcement === 'INDEPENDENT' ? group.id : source_group
    const scope = source_group === group.id ? 'group' : 'parent'
    return { key: counterKey({ owner, slug, type, unit }), owner, slug, type, unit, threshold, scope, limit }
  }

  const { rate_limits, usage_limits } = effectiveModel(enforcement, path, slug)
  const limits = [
    ...rate_limits.map((limit) => toBucket('rate', limit)),
    ...usage_limits.map((limit) => toBucket('usage', limit)),
  ]
  const limited = new Set(limits.map(({ key }) => key))
  const days = countedGroups(enforcement, path).flatMap((source_group) =>
    limitTypes.map((type) => toBucket('usage', { type, unit: 'DAY', threshold: null, source_group })),
  )
  return { hierarchy: root.id, buckets: [...limits, ...days.filter(({ key }) => !limited.has(key))] }
}

/** The groups whose day counters a request of the group at the start of `path` counts towards. */
export function countedGroups(enforcement: LimitEnforcement, path: readonly GroupOnPath[]): string[] {
  const counted = enforcement === 'INDEPENDENT' ? path.slice(0, 1) : path
  return counted.map(({ id }) => id)
}

export function canRefuse(bucket: Bucket): bucket is LimitBucket {
  return bucket.threshold !== null
}

/** The identity of a counter. Neither ids nor slugs hold a space, so no two counters share one. */
export function counterKey({ owner, slug, type, unit }: Pick<Bucket, 'owner' | 'slug' | 'type' | 'unit'>): string {
  return `${owner} ${slug} ${type} ${unit}`
}
