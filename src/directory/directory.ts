import { LRUCache } from 'lru-cache'
import type { BucketSet } from '../limits/buckets.ts'
import type { Change } from '../storage/change-log.ts'
import { Copies } from './copies.ts'
import { Group, type GroupRecord } from './group.ts'
import { reaches, type Scope } from './scope.ts'
import type { Target } from './target.ts'

/** Where the directory reads what it does not know. Each answers null for what does not exist. */
export interface DirectorySource {
  key(hash: string): Promise<KeyRecord | null>
  /** The group, then its ancestors up to the root. */
  groupPath(groupId: string): Promise<readonly GroupRecord[] | null>
  endpoint(slug: string): Promise<EndpointRecord | null>
  /** The slugs of all endpoints of a workspace. */
  slugs(workspaceId: string): Promise<readonly string[]>
  /** The workspaces that hostnames belong to, by hostname. */
  domains(): Promise<ReadonlyMap<string, string>>
}

export type KeyRecord = FederatedKeyRecord | WorkspaceKeyRecord

export interface FederatedKeyRecord {
  kind: 'federated'
  prefix: string
  workspaceId: string
  groupId: string
  expiresAtMs: number | null
  /** The slugs that the key is narrowed to; null: it follows its group. */
  slugs: ReadonlySet<string> | null
}

export interface WorkspaceKeyRecord {
  kind: 'workspace'
  prefix: string
  workspaceId: string
  mayCallModels: boolean
  scope: Scope
}

export interface EndpointRecord {
  workspaceId: string
  slug: string
  targets: readonly Target[]
}

export type Caller = FederatedCaller | WorkspaceCaller

/** A customer: may call what its group may, within the group's limits. */
export interface FederatedCaller {
  kind: 'federated'
  apiKeyPrefix: string
  workspaceId: string
  group: Group
  /** Where not null, the key may call these of the group's slugs and no others. */
  narrowedTo: ReadonlySet<string> | null
}

/** One of the lab's own: calls any endpoint of the workspace within its scope, without limits (contract §10). */
export interface WorkspaceCaller {
  kind: 'workspace'
  apiKeyPrefix: string
  workspaceId: string
  mayCallModels: boolean
  scope: Scope
}

export interface Route {
  slug: string
  targets: readonly Target[]
  buckets: BucketSet
}

const slugListsMax = 1_000
/** They are few, and looked at for every request: kept all together. */
const allDomains = 'all'

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
  readonly #slugs: Copies<readonly string[]>
  readonly #domains: Copies<ReadonlyMap<string, string>>
  readonly #groups: LRUCache<string, Group>
  #groupChanges = 0

  constructor(source: DirectorySource, { copiesMax = 100_000 }: { copiesMax?: number } = {}) {
    this.#source = source
    this.#keys = new Copies((hash) => source.key(hash), { max: copiesMax })
    this.#endpoints = new Copies((slug) => source.endpoint(slug), { max: copiesMax })
    this.#slugs = new Copies((workspaceId) => source.slugs(workspaceId), { max: slugListsMax })
    this.#domains = new Copies(() => source.domains(), { max: 1 })
    this.#groups = new LRUCache({ max: copiesMax, dispose: (group) => group.markStale() })
  }

  /** Who holds the key with this hash (`keyHash`), or null when nobody does, or no longer. */
  async caller(hash: string, nowMs: number): Promise<Caller | null> {
    const copy = this.#keys.peek(hash)
    const key = copy === undefined ? await this.#keys.get(hash) : copy
    if (key === null) return null
    const { kind, prefix: apiKeyPrefix, workspaceId } = key
    if (kind === 'workspace') {
      return { kind, apiKeyPrefix, workspaceId, mayCallModels: key.mayCallModels, scope: key.scope }
    }
    if (key.expiresAtMs !== null && key.expiresAtMs <= nowMs) return null
    const group = await this.#group(key.groupId)
    return group === null ? null : { kind, apiKeyPrefix, workspaceId, group, narrowedTo: key.slugs }
  }

  /** The workspace that `hostname` belongs to; null where it is nobody's in particular (contract §16). */
  async workspaceOf(hostname: string): Promise<string | null> {
    const domains = this.#domains.peek(allDomains) ?? (await this.#domains.get(allDomains))
    return domains?.get(hostname) ?? null
  }

  /** Where `slug` leads for this caller; null when it may not call it, or nothing serves it. */
  async route(caller: Caller, slug: string): Promise<Route | null> {
    const buckets = bucketsOf(caller, slug)
    if (buckets === undefined) return null
    const copy = this.#endpoints.peek(slug)
    const endpoint = copy === undefined ? await this.#endpoints.get(slug) : copy
    if (endpoint === null || endpoint.workspaceId !== caller.workspaceId) return null
    const targets = targetsOf(caller, endpoint)
    return targets === null ? null : { slug, targets, buckets }
  }

  /** The slugs that this caller may call and that something serves, in the order of its group's models or by age. */
  async slugs(caller: Caller): Promise<string[]> {
    const slugs =
      caller.kind === 'federated'
        ? [...caller.group.record.models.keys()]
        : await this.#workspaceSlugs(caller.workspaceId)
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
        this.#slugs.drop(change.workspaceId)
        this.#endpoints.dropWhere(({ workspaceId }) => workspaceId === change.workspaceId)
        break
      case 'domains':
        this.#domains.drop(allDomains)
        break
      case 'everything':
        this.#groupChanges += 1
        for (const copies of [this.#keys, this.#endpoints, this.#slugs, this.#domains]) copies.dropWhere(() => true)
        this.#groups.clear()
        break
      case 'workspace':
        this.#domains.drop(allDomains)
        this.#groupChanges += 1
        this.#keys.dropWhere(({ workspaceId }) => workspaceId === change.workspaceId)
        this.#endpoints.dropWhere(({ workspaceId }) => workspaceId === change.workspaceId)
        this.#slugs.drop(change.workspaceId)
        this.#groups.clear()
        break
    }
  }

  async #workspaceSlugs(workspaceId: string): Promise<readonly string[]> {
    const copy = this.#slugs.peek(workspaceId)
    return (copy === undefined ? await this.#slugs.get(workspaceId) : copy) ?? []
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

/** What a request is counted by; undefined when the caller's group may not call the slug. */
function bucketsOf(caller: Caller, slug: string): BucketSet | undefined {
  if (caller.kind === 'federated') {
    const isWithin = caller.narrowedTo === null || caller.narrowedTo.has(slug)
    return isWithin ? caller.group.buckets(slug) : undefined
  }
  return { hierarchy: caller.workspaceId, buckets: [] }
}

/** The targets that the caller may be served by; null when there is none within its scope. */
function targetsOf(caller: Caller, { targets }: EndpointRecord): readonly Target[] | null {
  if (caller.kind === 'federated') return targets
  const within = targets.filter((target) => reaches(caller.scope, target))
  return within.length === 0 ? null : within
}
