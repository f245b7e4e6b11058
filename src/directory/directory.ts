import { LRUCache } from 'lru-cache'
import type { BucketSet } from '../limits/buckets.ts'
import type { Change } from '../storage/change-log.ts'
import { Copies } from './copies.ts'
import { Group, type GroupRecord } from './group.ts'
import type { Target } from './target.ts'

/** Where the directory reads what it does not know. Each answers null for what does not exist. */
export interface DirectorySource {
  key(hash: string): Promise<KeyRecord | null>
  /** The group, then its ancestors up to the root. */
  groupPath(groupId: string): Promise<readonly GroupRecord[] | null>
  endpoint(slug: string): Promise<EndpointRecord | null>
}

export interface KeyRecord {
  prefix: string
  workspaceId: string
  groupId: string
  expiresAtMs: number | null
}

export interface EndpointRecord {
  workspaceId: string
  slug: string
  targets: readonly Target[]
}

export interface Caller {
  apiKeyPrefix: string
  workspaceId: string
  group: Group
}

export interface Route {
  slug: string
  targets: readonly Target[]
  buckets: BucketSet
}

/**
 * What the inference plane knows of keys, groups and endpoints: bounded copies in memory, read on demand,
 * dropped when the change log says that they are stale. A request served from here needs no database, so the
 * database may be away.
 *
 * Whoever changes rows announces it after the commit and before the answer, so that a change holds on this
 * node as soon as its caller knows of it (contract §3). A group's copy leans on those of its ancestors: to
 * drop one is to drop its whole subtree, at no cost in the size of the tree.
 */
export class Directory {
  readonly #source: DirectorySource
  readonly #keys: Copies<KeyRecord>
  readonly #endpoints: Copies<EndpointRecord>
  readonly #groups: LRUCache<string, Group>
  #groupChanges = 0

  constructor(source: DirectorySource, { copiesMax = 100_000 }: { copiesMax?: number } = {}) {
    this.#source = source
    this.#keys = new Copies((hash) => source.key(hash), { max: copiesMax })
    this.#endpoints = new Copies((slug) => source.endpoint(slug), { max: copiesMax })
    this.#groups = new LRUCache({ max: copiesMax, dispose: (group) => group.markStale() })
  }

  /** Who holds the key with this hash (`keyHash`), or null when nobody does, or no longer. */
  async caller(hash: string, nowMs: number): Promise<Caller | null> {
    const copy = this.#keys.peek(hash)
    const key = copy === undefined ? await this.#keys.get(hash) : copy
    if (key === null || (key.expiresAtMs !== null && key.expiresAtMs <= nowMs)) return null
    const group = await this.#group(key.groupId)
    return group === null ? null : { apiKeyPrefix: key.prefix, workspaceId: key.workspaceId, group }
  }

  /** Where `slug` leads for this caller; null when it may not call it, or nothing serves it. */
  async route(caller: Caller, slug: string): Promise<Route | null> {
    const buckets = caller.group.buckets(slug)
    if (buckets === undefined) return null
    const copy = this.#endpoints.peek(slug)
    const endpoint = copy === undefined ? await this.#endpoints.get(slug) : copy
    if (endpoint === null || endpoint.workspaceId !== caller.workspaceId) return null
    return { slug, targets: endpoint.targets, buckets }
  }

  /** The slugs that this caller may call and that something serves, in the order of its group's models. */
  async slugs(caller: Caller): Promise<string[]> {
    const slugs = caller.group.effectiveModels.map(({ slug }) => slug)
    const routes = await Promise.all(slugs.map((slug) => this.route(caller, slug)))
    return slugs.filter((_slug, index) => routes[index] !== null)
  }

  /** Drops the copies that `change` made stale. */
  invalidate(change: Change): void {
    switch (change.kind) {
      case 'key':
        this.#keys.drop(change.hash)
        break
      case 'group':
        this.#groupChanges += 1
        this.#groups.delete(change.groupId)
        break
      case 'routing':
        this.#endpoints.dropWhere(({ workspaceId }) => workspaceId === change.workspaceId)
        break
      case 'workspace':
        this.#groupChanges += 1
        this.#keys.dropWhere(({ workspaceId }) => workspaceId === change.workspaceId)
        this.#endpoints.dropWhere(({ workspaceId }) => workspaceId === change.workspaceId)
        this.#groups.clear()
        break
    }
  }

  async #group(groupId: string): Promise<Group | null> {
    const copy = this.#groups.get(groupId)
    return copy?.isCurrent ? copy : this.#readGroup(groupId)
  }

  async #readGroup(groupId: string): Promise<Group | null> {
    const changesBefore = this.#groupChanges
    const records = await this.#source.groupPath(groupId)
    if (records === null) return null
    const mayKeep = this.#groupChanges === changesBefore
    let path: readonly Group[] = []
    for (const record of records.toReversed()) {
      const copy = this.#groups.get(record.id)
      const group = copy?.isCurrent && mayKeep ? copy : new Group(record, path)
      if (mayKeep && group !== copy) this.#groups.set(record.id, group)
      path = [group, ...path]
    }
    return path[0] ?? null
  }
}
