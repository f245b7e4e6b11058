import { z } from 'zod'
import { mintKey } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { notFound } from '../errors.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { FederatedKeyRow, WorkspaceRow } from '../storage/tables.ts'
import { findGroup } from './group-tree.ts'
import { owned } from './owned.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

const name = z.string().max(255).nullable().describe('For people.')

const CreateKeyRequest = z.strictObject({ name: name.default(null) }).meta({ id: 'CreateApiKeyForGroupRequestV1' })
type CreateKeyRequest = z.output<typeof CreateKeyRequest>

const CreatedKey = z
  .object({ api_key: z.string().describe('The whole key, shown this once.'), prefix: z.string(), name })
  .meta({ id: 'CreateApiKeyForGroupResponseV1' })
type CreatedKey = z.output<typeof CreatedKey>

const KeyInfo = z
  .object({ prefix: z.string().describe('The public part, before the dot.'), name, created_at: Timestamp })
  .meta({ id: 'GatewayKeyInfoV1' })
type KeyInfo = z.output<typeof KeyInfo>

const Keys = z.object({ items: z.array(KeyInfo), pagination: Pagination }).meta({ id: 'KeysForGroupResponseV1' })
type Keys = z.output<typeof Keys>

const KeyTombstone = z.object({ prefix: z.string() }).meta({ id: 'KeyForGroupTombstoneV1' })
type KeyTombstone = z.output<typeof KeyTombstone>

export interface FederatedKeyParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The keys of a group's customers (contract §8). */
export function federatedKeyRoutes(parts: FederatedKeyParts): Route[] {
  const tag = 'Federated keys'
  const path = '/v1/gateway/groups/{group_id}/api_keys'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'federated-keys:manage',
      summary: 'Mint a key for a group',
      tag,
      body: CreateKeyRequest,
      response: CreatedKey,
      handler: ({ workspace, params, body, transaction }) =>
        mintGroupKey(workspace, { groupId: params.group_id, ...body }, { ...parts, transaction }),
      audit: ({ prefix }, { params }) => ({ event_type: 'FEDERATED_KEY_CREATED', prefix, group_id: params.group_id }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'federated-keys:view',
      summary: "List a group's keys",
      tag,
      query: pageQuery,
      response: Keys,
      handler: ({ workspace, params, query, queries }) =>
        listKeys(workspace.id, { groupId: params.group_id, ...query }, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{api_key_prefix}`,
      permission: 'federated-keys:view',
      summary: 'Get a key by its prefix',
      tag,
      response: KeyInfo,
      handler: async ({ workspace, params, queries }) => toKeyInfo(await findKey(workspace.id, params, queries)),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{api_key_prefix}`,
      permission: 'federated-keys:manage',
      summary: 'Revoke a key, for good',
      tag,
      response: KeyTombstone,
      handler: ({ workspace, params, transaction }) => revokeKey(workspace.id, params, { ...parts, transaction }),
      audit: ({ prefix }, { params }) => ({ event_type: 'FEDERATED_KEY_DELETED', prefix, group_id: params.group_id }),
    }),
  ]
}

interface WriteParts extends FederatedKeyParts {
  transaction: Transaction
}

async function mintGroupKey(
  workspace: WorkspaceRow,
  { groupId, name }: CreateKeyRequest & { groupId: string },
  { transaction, changeLog, clock }: WriteParts,
): Promise<CreatedKey> {
  await findGroup(workspace.id, groupId, transaction.queries)
  const { key, prefix, hash } = mintKey(workspace.key_prefix)
  await transaction.queries
    .insertInto('federated_keys')
    .values({
      id: newId(clock.now()),
      prefix,
      hash,
      workspace_id: workspace.id,
      group_id: groupId,
      name,
      created_at: clock.now(),
      expires_at: null,
      last_used_at: null,
      revoked_at: null,
    })
    .execute()
  changeLog.record(transaction, { kind: 'key', hash })
  return { api_key: key, prefix, name }
}

async function listKeys(
  workspaceId: string,
  { groupId, ...request }: PageRequest & { groupId: string },
  queries: Queries,
): Promise<Keys> {
  await findGroup(workspaceId, groupId, queries)
  const rows = await queries
    .selectFrom('federated_keys')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('group_id', '=', groupId)
    .where('revoked_at', 'is', null)
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toKeyInfo)
}

interface KeyPath {
  group_id: string
  api_key_prefix: string
}

/** The key's row. One that is revoked, or another group's, is as absent as one that never was. */
async function findKey(
  workspaceId: string,
  { group_id, api_key_prefix }: KeyPath,
  queries: Queries,
): Promise<FederatedKeyRow> {
  await findGroup(workspaceId, group_id, queries)
  const row = await queries
    .selectFrom('federated_keys')
    .selectAll()
    .where('prefix', '=', api_key_prefix)
    .where('revoked_at', 'is', null)
    .executeTakeFirst()
  const key = owned(workspaceId, row, 'key')
  if (key.group_id !== group_id) throw notFound('key')
  return key
}

async function revokeKey(
  workspaceId: string,
  keyPath: KeyPath,
  { transaction, changeLog, clock }: WriteParts,
): Promise<KeyTombstone> {
  const { id, prefix, hash } = await findKey(workspaceId, keyPath, transaction.queries)
  await transaction.queries
    .updateTable('federated_keys')
    .set({ revoked_at: clock.now() })
    .where('id', '=', id)
    .execute()
  changeLog.record(transaction, { kind: 'key', hash })
  return { prefix }
}

function toKeyInfo({ prefix, name, created_at }: FederatedKeyRow): KeyInfo {
  return { prefix, name, created_at: timestamp(created_at) }
}
