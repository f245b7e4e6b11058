import { z } from 'zod'
import { keyHash, type MintedKey, mintKey, publicPrefix } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { invalid, notFound } from '../errors.ts'
import { newId } from '../id.ts'
import { ChangeLog } from '../storage/change-log.ts'
import type { Database, Queries, Transaction } from '../storage/database.ts'
import { lockWorkspace, takeLock } from '../storage/locks.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { WorkspaceRow } from '../storage/tables.ts'
import { distinct } from './distinct.ts'
import { anyPrefix, orgPrefixes, othersPrefixes } from './org-prefixes.ts'
import { insertAccount } from './person-row.ts'
import { defineRoute, type Route } from './route.ts'
import { insertDefaultTeam } from './team-row.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { insertWorkspaceKey } from './workspace-key-row.ts'

const OrgPrefix = z
  .string()
  .max(64)
  .regex(/^(\*|[\w~-][\w.~-]*)$/, 'Must be URL-safe: letters, digits and ._~- (not a dot at its start).')

const OrgPrefixes = distinct(OrgPrefix, { by: (prefix) => prefix, message: (prefix) => `${prefix} is there twice.` })
  .max(100)
  .refine((prefixes) => prefixes.length === 1 || !prefixes.includes(anyPrefix), {
    error: `${anyPrefix} (any prefix that no other workspace owns) must stand alone.`,
  })

const fields = {
  name: z.string().min(1).max(255),
  onboarded: z.boolean().describe('Whether it may use /v1/gateway/, and its customers the inference listener.'),
  org_prefixes: OrgPrefixes.describe('First segments of the slugs that are its own.'),
  key_prefix: z
    .string()
    .max(32)
    .regex(/^[\w-]*$/, 'Must be letters, digits, _ and -.')
    .describe('What the federated keys that it mints begin with.'),
  register_public_key: z
    .string()
    .regex(/^[A-Za-z0-9+/]{43}=$/, 'Must be an Ed25519 public key: 32 bytes in base64.')
    .nullable()
    .describe('Verifies the registration of keys that were made elsewhere.'),
}

const CreateWorkspaceRequest = z
  .strictObject({
    ...fields,
    onboarded: fields.onboarded.default(true),
    org_prefixes: fields.org_prefixes.default([]),
    key_prefix: fields.key_prefix.default('tk_'),
    register_public_key: fields.register_public_key.default(null),
  })
  .meta({ id: 'CreateWorkspaceRequestV1' })
type CreateWorkspaceRequest = z.output<typeof CreateWorkspaceRequest>

const UpdateWorkspaceRequest = z
  .strictObject({
    name: fields.name.exactOptional(),
    onboarded: fields.onboarded.exactOptional(),
    org_prefixes: fields.org_prefixes.exactOptional(),
    key_prefix: fields.key_prefix.exactOptional(),
    register_public_key: fields.register_public_key.exactOptional(),
  })
  .meta({ id: 'UpdateWorkspaceRequestV1' })
type UpdateWorkspaceRequest = z.output<typeof UpdateWorkspaceRequest>

const Workspace = z
  .object({ id: z.string(), ...fields, org_prefixes: z.array(z.string()), created_at: Timestamp })
  .meta({ id: 'WorkspaceV1' })
type Workspace = z.output<typeof Workspace>

const CreatedWorkspace = Workspace.extend({
  api_key: z.string().describe('A full-access key of the workspace, shown this once.'),
}).meta({ id: 'CreatedWorkspaceV1' })

const Workspaces = z.object({ items: z.array(Workspace), pagination: Pagination }).meta({ id: 'WorkspacesResponseV1' })

const WorkspaceTombstone = z
  .object({ id: z.string(), name: z.string(), deleted_at: Timestamp })
  .meta({ id: 'WorkspaceTombstoneV1' })

export interface WorkspaceParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The operator's routes: a workspace for each lab (contract §5). */
export function workspaceRoutes(parts: WorkspaceParts): Route[] {
  const shared = { permission: 'workspaces:manage', tag: 'Workspaces' } as const
  const path = '/v1/operator/workspaces'
  return [
    defineRoute({
      ...shared,
      method: 'POST',
      path,
      summary: 'Create a workspace and its first key',
      body: CreateWorkspaceRequest,
      response: CreatedWorkspace,
      handler: ({ body, transaction }) => createWorkspace(body, { ...parts, transaction }),
      audit: (workspace) => ({ event_type: 'WORKSPACE_CREATED', ...audited(workspace) }),
    }),
    defineRoute({
      ...shared,
      method: 'GET',
      path,
      summary: 'List workspaces',
      query: pageQuery,
      response: Workspaces,
      handler: ({ query, queries }) => listWorkspaces(query, queries),
    }),
    defineRoute({
      ...shared,
      method: 'GET',
      path: `${path}/{workspace_id}`,
      summary: 'Get a workspace',
      response: Workspace,
      handler: ({ params, queries }) => findWorkspace(params.workspace_id, queries),
    }),
    defineRoute({
      ...shared,
      method: 'PATCH',
      path: `${path}/{workspace_id}`,
      summary: 'Change a workspace',
      body: UpdateWorkspaceRequest,
      response: Workspace,
      handler: ({ params, body, transaction }) => updateWorkspace(params.workspace_id, body, { ...parts, transaction }),
      audit: (workspace) => ({ event_type: 'WORKSPACE_UPDATED', ...audited(workspace) }),
    }),
    defineRoute({
      ...shared,
      method: 'DELETE',
      path: `${path}/{workspace_id}`,
      summary: 'Delete a workspace and all that it owns, but for its billing record and its audit log',
      response: WorkspaceTombstone,
      handler: ({ params, transaction }) => deleteWorkspace(params.workspace_id, { ...parts, transaction }),
      audit: (workspace) => ({ event_type: 'WORKSPACE_DELETED', ...audited(workspace) }),
    }),
  ]
}

interface WriteParts extends WorkspaceParts {
  transaction: Transaction
}

async function createWorkspace(
  request: CreateWorkspaceRequest,
  { transaction, changeLog, clock, key = mintKey('wk_') }: WriteParts & { key?: MintedKey | undefined },
): Promise<z.output<typeof CreatedWorkspace>> {
  const workspace = { id: newId(clock.now()), ...request, created_at: timestamp(clock.now()) }
  await refuseTakenPrefixes(workspace.id, request.org_prefixes, transaction)
  await transaction.queries.insertInto('workspaces').values(toRow(workspace)).execute()
  await insertDefaultTeam(workspace.id, { transaction, clock })
  await insertAccount(workspace.id, { transaction, clock })
  await insertWorkspaceKey(
    { workspace_id: workspace.id, key, type: 'WORKSPACE_MANAGE_ALL' },
    { transaction, clock, changeLog },
  )
  return { ...workspace, api_key: key.key }
}

async function listWorkspaces(request: PageRequest, queries: Queries): Promise<z.output<typeof Workspaces>> {
  const rows = await queries
    .selectFrom('workspaces')
    .selectAll()
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toWorkspace)
}

async function findWorkspace(id: string, queries: Queries): Promise<Workspace> {
  const row = await queries.selectFrom('workspaces').selectAll().where('id', '=', id).executeTakeFirst()
  if (row === undefined) throw notFound('workspace')
  return toWorkspace(row)
}

async function updateWorkspace(
  id: string,
  changes: UpdateWorkspaceRequest,
  { transaction, changeLog }: WriteParts,
): Promise<Workspace> {
  const row = await lockWorkspace(id, transaction)
  if (row === undefined) throw notFound('workspace')
  const workspace = { ...toWorkspace(row), ...changes }
  if (changes.org_prefixes !== undefined) await refuseTakenPrefixes(id, changes.org_prefixes, transaction)
  await transaction.queries.updateTable('workspaces').set(toRow(workspace)).where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'workspace', workspaceId: id })
  return workspace
}

async function deleteWorkspace(
  id: string,
  { transaction, changeLog, clock }: WriteParts,
): Promise<z.output<typeof WorkspaceTombstone>> {
  const { name } = await findWorkspace(id, transaction.queries)
  await transaction.queries.deleteFrom('workspaces').where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'workspace', workspaceId: id })
  return { id, name, deleted_at: timestamp(clock.now()) }
}

/**
 * Makes the first workspace, with a full-access key, where there is none: `key`, or one that is made here and returned
 * this once (contract §2).
 */
export async function createBootstrapWorkspace(
  database: Database,
  { key, clock }: { key: string | null; clock: Clock },
): Promise<{ generatedKey: string | null }> {
  const given = key === null ? undefined : { key, prefix: publicPrefix(key), hash: keyHash(key) }
  return database.transaction(async (transaction) => {
    // Of nodes that start at once on an empty database, one makes it.
    await takeLock('names', transaction)
    const existing = await transaction.queries.selectFrom('workspaces').select('id').limit(1).executeTakeFirst()
    if (existing !== undefined) return { generatedKey: null }
    const { api_key } = await createWorkspace(
      CreateWorkspaceRequest.parse({ name: 'default', org_prefixes: [anyPrefix] }),
      // Nothing keeps copies of rows yet, so nobody is told of the new ones.
      { transaction, clock, changeLog: new ChangeLog(), key: given },
    )
    return { generatedKey: given === undefined ? api_key : null }
  })
}

function audited({ id, name }: Pick<Workspace, 'id' | 'name'>) {
  return { workspace_id: id, workspace_name: name }
}

async function refuseTakenPrefixes(id: string, prefixes: readonly string[], transaction: Transaction): Promise<void> {
  await takeLock('names', transaction)
  const taken = await othersPrefixes(id, transaction.queries)
  for (const [index, prefix] of prefixes.entries()) {
    if (taken.has(prefix))
      throw invalid(`org_prefixes.${index}`, `The prefix '${prefix}' belongs to another workspace.`)
  }
}

function toWorkspace(row: WorkspaceRow): Workspace {
  return {
    ...row,
    onboarded: row.onboarded === 1,
    org_prefixes: orgPrefixes(row),
    created_at: timestamp(row.created_at),
  }
}

function toRow(workspace: Workspace): WorkspaceRow {
  return {
    ...workspace,
    onboarded: workspace.onboarded ? 1 : 0,
    org_prefixes: JSON.stringify(workspace.org_prefixes),
    created_at: Date.parse(workspace.created_at),
  }
}
