import { z } from 'zod'
import { mintKey } from '../access/api-key.ts'
import { may } from '../access/permissions.ts'
import { keyScope } from '../access/workspace-key.ts'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { WorkspaceKeyRow } from '../storage/tables.ts'
import { auditedKey } from './audit-events.ts'
import type { WorkspaceCaller } from './authentication.ts'
import {
  CreateKeyRequest,
  KeyName,
  KeyType,
  personOf,
  refuseRise,
  refuseUnknownModels,
  roleBoundOf,
} from './new-workspace-key.ts'
import { owned } from './owned.ts'
import { defineRoute, type Route } from './route.ts'
import { findTeam } from './team-row.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { insertWorkspaceKey, revokeWorkspaceKeys } from './workspace-key-row.ts'

const CreatedKey = z
  .object({ api_key: z.string().describe('The whole key, shown this once.') })
  .meta({ id: 'APIKeyV1' })

const RenameKeyRequest = z.strictObject({ name: KeyName }).meta({ id: 'UpdateAPIKeyRequestV1' })

const KeyInfo = z
  .object({
    prefix: z.string().describe('The public part, before the dot.'),
    name: z.string().nullable(),
    type: KeyType,
    model_ids: z.array(z.string()).nullable(),
    environments: z.array(z.string()).nullable(),
    team_name: z.string().nullable().describe("Null: a person's, or the whole workspace's."),
    owner: z
      .object({ user_id: z.string(), email: z.string().nullable(), name: z.string().nullable() })
      .meta({ id: 'APIKeyOwnerV1' })
      .nullable()
      .describe('The person whose personal key it is.'),
    created_at: Timestamp,
    last_used_at: Timestamp.nullable().describe('Known a few seconds after the use; null before the first.'),
  })
  .meta({ id: 'APIKeyInfoV1' })
type KeyInfo = z.output<typeof KeyInfo>

const Keys = z.object({ keys: z.array(KeyInfo) }).meta({ id: 'APIKeysV1' })
type Keys = z.output<typeof Keys>

const KeyTombstone = z.object({ prefix: z.string() }).meta({ id: 'APIKeyTombstoneV1' })

export interface WorkspaceKeyParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The keys of the lab's own people, teams and programs (contract §10). */
export function workspaceKeyRoutes(parts: WorkspaceKeyParts): Route[] {
  const tag = 'Workspace keys'
  const path = '/v1/api_keys'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'workspace-keys:use',
      summary: 'Mint a workspace key, which may do no more than the key that asks for it',
      tag,
      body: CreateKeyRequest,
      response: CreatedKey,
      errors: ['NOT_FOUND'],
      handler: ({ workspace, actor, body, transaction }) =>
        mintWorkspaceKey({ workspace, actor }, { teamId: actor.teamId, ...body }, { ...parts, transaction }),
      audit: ({ row }) => ({ event_type: 'API_KEY_CREATED', ...auditedKey(row) }),
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/teams/{team_id}/api_keys',
      permission: 'workspace-keys:manage',
      summary: 'Mint a key of a team, which sees its team and no other',
      tag,
      body: CreateKeyRequest,
      response: CreatedKey,
      handler: ({ workspace, actor, params, body, transaction }) =>
        mintTeamKey({ workspace, actor }, { teamId: params.team_id, ...body }, { ...parts, transaction }),
      audit: ({ row }) => ({ event_type: 'API_KEY_CREATED', ...auditedKey(row) }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'workspace-keys:use',
      summary: "List workspace keys: all, a team's for a key of the team, a member's own for a member",
      tag,
      response: Keys,
      handler: ({ workspace, actor, queries }) => listKeys({ workspace, actor }, queries),
    }),
    defineRoute({
      method: 'PATCH',
      path: `${path}/{api_key_prefix}`,
      permission: 'workspace-keys:use',
      summary: 'Rename a workspace key',
      tag,
      body: RenameKeyRequest,
      response: KeyInfo,
      handler: ({ workspace, actor, params, body, transaction }) =>
        renameKey({ workspace, actor }, { prefix: params.api_key_prefix, ...body }, transaction),
      audit: ({ row }) => ({ event_type: 'API_KEY_UPDATED', ...auditedKey(row) }),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{api_key_prefix}`,
      permission: 'workspace-keys:use',
      summary: 'Revoke a workspace key, for good',
      tag,
      response: KeyTombstone,
      handler: ({ workspace, actor, params, transaction }) =>
        revokeKey({ workspace, actor }, params.api_key_prefix, { ...parts, transaction }),
      audit: (row) => ({ event_type: 'API_KEY_DELETED', ...auditedKey(row) }),
    }),
  ]
}

interface WriteParts extends WorkspaceKeyParts {
  transaction: Transaction
}

interface Minted extends z.output<typeof CreatedKey> {
  row: WorkspaceKeyRow
}

async function mintWorkspaceKey(
  caller: WorkspaceCaller,
  request: CreateKeyRequest & { teamId: string | null },
  { transaction, changeLog, clock }: WriteParts,
): Promise<Minted> {
  const { type, name, model_ids, environments } = request
  const person = await personOf(caller, request, transaction.queries)
  const teamId = person === null ? request.teamId : null
  refuseRise(caller, { ...request, teamId, person })
  await refuseUnknownModels(caller.workspace.id, model_ids ?? [], transaction.queries)

  const key = mintKey('wk_')
  const row = await insertWorkspaceKey(
    {
      key,
      type,
      name,
      workspace_id: caller.workspace.id,
      team_id: teamId,
      person_id: person?.id ?? null,
      role_bound: person === null ? null : roleBoundOf(caller, person),
      model_ids: model_ids === null ? null : JSON.stringify(model_ids),
      environments: environments === null ? null : JSON.stringify(environments),
    },
    { transaction, clock, changeLog },
  )
  return { api_key: key.key, row }
}

async function mintTeamKey(
  caller: WorkspaceCaller,
  request: CreateKeyRequest & { teamId: string },
  parts: WriteParts,
): Promise<Minted> {
  await findTeam(caller, request.teamId, parts.transaction.queries)
  if (request.type === 'PERSONAL') throw invalid('type', 'A personal key belongs to a person, not to a team.')
  return mintWorkspaceKey(caller, request, parts)
}

async function listKeys(caller: WorkspaceCaller, queries: Queries): Promise<Keys> {
  const rows = await keysOf(caller.workspace.id, queries).orderBy('workspace_keys.id').execute()
  return { keys: rows.filter((row) => isWithinReach(caller, row)).map(toKeyInfo) }
}

async function renameKey(
  caller: WorkspaceCaller,
  { prefix, name }: { prefix: string; name: string },
  { queries }: Transaction,
): Promise<KeyInfo & { row: WorkspaceKeyRow }> {
  const { id } = await findKey(caller, prefix, queries)
  await queries.updateTable('workspace_keys').set({ name }).where('id', '=', id).execute()
  const row = await keysOf(caller.workspace.id, queries).where('workspace_keys.id', '=', id).executeTakeFirstOrThrow()
  return { ...toKeyInfo(row), row }
}

async function revokeKey(
  caller: WorkspaceCaller,
  prefix: string,
  { transaction, changeLog, clock }: WriteParts,
): Promise<WorkspaceKeyRow> {
  const row = await findKey(caller, prefix, transaction.queries)
  await revokeWorkspaceKeys([row], { transaction, changeLog, clock })
  return row
}

/** The key's row: 404 once it is revoked, 403 where another workspace has it or the caller's reach ends. */
async function findKey(caller: WorkspaceCaller, prefix: string, queries: Queries): Promise<WorkspaceKeyRow> {
  const found = await queries
    .selectFrom('workspace_keys')
    .selectAll()
    .where('prefix', '=', prefix)
    .where('revoked_at', 'is', null)
    .executeTakeFirst()
  const row = owned(caller.workspace.id, found, 'key')
  if (!isWithinReach(caller, row)) throw new ApiError('FORBIDDEN')
  return row
}

/** Whether the caller sees and manages a key: members their own, keys of a team their team's, the others all. */
function isWithinReach({ actor }: WorkspaceCaller, { team_id, person_id }: WorkspaceKeyRow): boolean {
  if (may(actor, 'workspace-keys:manage')) return actor.teamId === null || team_id === actor.teamId
  return person_id !== null && person_id === actor.person?.id
}

function keysOf(workspaceId: string, queries: Queries) {
  return queries
    .selectFrom('workspace_keys')
    .leftJoin('teams', 'teams.id', 'workspace_keys.team_id')
    .leftJoin('people', 'people.id', 'workspace_keys.person_id')
    .selectAll('workspace_keys')
    .select(['teams.name as team_name', 'people.email as owner_email', 'people.name as owner_name'])
    .where('workspace_keys.workspace_id', '=', workspaceId)
    .where('revoked_at', 'is', null)
}

interface ListedKey extends WorkspaceKeyRow {
  team_name: string | null
  owner_email: string | null
  owner_name: string | null
}

function toKeyInfo(row: ListedKey): KeyInfo {
  const { prefix, name, type, team_name, person_id, created_at, last_used_at } = row
  const { modelIds, environments } = keyScope(row)
  return {
    prefix,
    name,
    type,
    model_ids: modelIds === null ? null : [...modelIds],
    environments: environments === null ? null : [...environments],
    team_name,
    owner: person_id === null ? null : { user_id: person_id, email: row.owner_email, name: row.owner_name },
    created_at: timestamp(created_at),
    last_used_at: last_used_at === null ? null : timestamp(last_used_at),
  }
}
