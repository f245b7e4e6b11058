import { may } from '../access/permissions.ts'
import { findWorkspaceKey } from '../access/workspace-key.ts'
import { bySlug } from '../limits/effective-limits.ts'
import type { Queries } from '../storage/database.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import type { GroupRow } from '../storage/tables.ts'
import type { DirectorySource, EndpointRecord, FederatedKeyRecord, KeyRecord, WorkspaceKeyRecord } from './directory.ts'
import type { GroupRecord } from './group.ts'
import { endpointTargets } from './targets.ts'

/** The directory's source: the store. What is revoked, deleted or not onboarded reads as absent. */
export function storedDirectory(queries: Queries, secretBox: SecretBox): DirectorySource {
  return {
    key: (hash) => readKey(queries, hash),
    groupPath: (groupId) => readGroupPath(queries, groupId),
    endpoint: (slug) => readEndpoint(queries, secretBox, slug),
    slugs: (workspaceId) => readSlugs(queries, workspaceId),
    domains: () => readDomains(queries),
  }
}

async function readKey(queries: Queries, hash: string): Promise<KeyRecord | null> {
  return (await readFederatedKey(queries, hash)) ?? readWorkspaceKey(queries, hash)
}

async function readFederatedKey(queries: Queries, hash: string): Promise<FederatedKeyRecord | null> {
  const row = await queries
    .selectFrom('federated_keys')
    .innerJoin('workspaces', 'workspaces.id', 'federated_keys.workspace_id')
    .select(['federated_keys.prefix', 'federated_keys.workspace_id', 'group_id', 'expires_at', 'slugs'])
    .where('hash', '=', hash)
    .where('revoked_at', 'is', null)
    .where('onboarded', '=', 1)
    .executeTakeFirst()
  if (row === undefined) return null
  return {
    kind: 'federated',
    prefix: row.prefix,
    workspaceId: row.workspace_id,
    groupId: row.group_id,
    expiresAtMs: row.expires_at,
    slugs: row.slugs === null ? null : new Set(JSON.parse(row.slugs)),
  }
}

async function readWorkspaceKey(queries: Queries, hash: string): Promise<WorkspaceKeyRecord | null> {
  const key = await findWorkspaceKey(queries, hash)
  if (key === null) return null
  const { prefix, workspaceId, modelIds, environments } = key
  const { onboarded } = await queries
    .selectFrom('workspaces')
    .select('onboarded')
    .where('id', '=', workspaceId)
    .executeTakeFirstOrThrow()
  return {
    kind: 'workspace',
    prefix,
    workspaceId,
    mayCallModels: onboarded === 1 && may(key, 'inference:call'),
    scope: { modelIds, environments },
  }
}

async function readGroupPath(queries: Queries, groupId: string): Promise<GroupRecord[] | null> {
  const group = await queries.selectFrom('groups').selectAll().where('id', '=', groupId).executeTakeFirst()
  if (group === undefined) return null
  const ids = group.path.split('/')
  const rows = await queries.selectFrom('groups').selectAll().where('id', 'in', ids).execute()
  const byId = new Map(rows.map((row) => [row.id, toGroupRecord(row)]))
  const path = ids.flatMap((id) => byId.get(id) ?? [])
  // An ancestor that went between the two reads took the group with it.
  return path.length === ids.length ? path : null
}

function toGroupRecord(row: GroupRow): GroupRecord {
  return {
    id: row.id,
    workspaceId: row.workspace_id,
    externalEntityId: row.external_entity_id,
    limitEnforcement: row.limit_enforcement,
    models: bySlug(JSON.parse(row.models)),
  }
}

async function readEndpoint(queries: Queries, secretBox: SecretBox, slug: string): Promise<EndpointRecord | null> {
  // PostgreSQL takes no such text, not even in a question.
  if (slug.includes('\0')) return null
  const row = await queries.selectFrom('endpoints').selectAll().where('slug', '=', slug).executeTakeFirst()
  if (row === undefined) return null
  return { workspaceId: row.workspace_id, slug, targets: await endpointTargets(queries, secretBox, row) }
}

async function readSlugs(queries: Queries, workspaceId: string): Promise<string[]> {
  const rows = await queries
    .selectFrom('endpoints')
    .select('slug')
    .where('workspace_id', '=', workspaceId)
    .orderBy('id')
    .execute()
  return rows.map(({ slug }) => slug)
}

async function readDomains(queries: Queries): Promise<ReadonlyMap<string, string>> {
  const rows = await queries.selectFrom('domains').select(['hostname', 'workspace_id']).execute()
  return new Map(rows.map(({ hostname, workspace_id }) => [hostname, workspace_id]))
}
