import { type BucketSet, bucketSet, countedGroups } from '../limits/buckets.ts'
import type { GroupOnPath, LimitEnforcement } from '../limits/effective-limits.ts'

export interface GroupRecord {
  id: string
  workspaceId: string
  externalEntityId: string
  limitEnforcement: LimitEnforcement
  models: GroupOnPath['models']
}

/**
 * A group with all that inheritance makes of it. What its limits come to for a slug is worked out at the first
 * request for it, and kept for as long as neither the group nor one of its ancestors changes.
 */
export class Group {
  readonly record: GroupRecord
  /** From the parent to the root. */
  readonly ancestors: readonly Group[]
  readonly countedGroups: readonly string[]
  readonly #path: readonly GroupOnPath[]
  readonly #bucketsBySlug = new Map<string, BucketSet>()
  #stale = false

  constructor(record: GroupRecord, ancestors: readonly Group[]) {
    this.record = record
    this.ancestors = ancestors
    this.#path = [record, ...ancestors.map((ancestor) => ancestor.record)]
    this.countedGroups = countedGroups(record.limitEnforcement, this.#path)
  }

  /** False once the group or an ancestor has changed, or was deleted, or its copy made room for others. */
  get isCurrent(): boolean {
    if (this.#stale) return false
    for (const ancestor of this.ancestors) if (ancestor.#stale) return false
    return true
  }

  markStale(): void {
    this.#stale = true
  }

  /** The counters that a request for `slug` must fit; undefined when the group may not call it. */
  buckets(slug: string): BucketSet | undefined {
    return this.#bucketsBySlug.get(slug) ?? this.#firstBuckets(slug)
  }

  #firstBuckets(slug: string): BucketSet | undefined {
    const { models, limitEnforcement } = this.record
    if (!models.has(slug)) return undefined
    const buckets = bucketSet(limitEnforcement, this.#path, slug)
    this.#bucketsBySlug.set(slug, buckets)
    return buckets
  }
}
