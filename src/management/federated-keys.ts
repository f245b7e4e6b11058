import { z } from 'zod'
import { mintKey } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery } from '../storage/page.ts'
import type { FederatedKeyRow, WorkspaceRow } from '../storage/tables.ts'
import { findFederatedKey, insertFederatedKey, selectFederatedKeys, updateFederatedKey } from './federated-key-row.ts'
import { findGroup } from './group-tree.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { parseUtcTime } from './utc-time.ts'

const name = z.string().max(255).nullable().describe('For people.')

const CreateKeyRequest = z
  .strictObject({
    name: name.default(null),
    expires_at: Timestamp.nullable().default(null).describe('When the key ends by itself; left out: never.'),
  })
  .meta({ id: 'CreateApiKeyForGroupRequestV1' })
type CreateKeyRequest = z.output<typeof CreateKeyRequest>

const CreatedKey = z
  .object({ api_key: z.string().describe('The whole key, shown this once.'), prefix: z.string(), name })
  .meta({ id: 'CreateApiKeyForGroupResponseV1' })
type CreatedKey = z.output<typeof CreatedKey>

const RotateKeyRequest = z
  .strictObject({
    grace_seconds: z
      .int()
      .min(0)
      .max(30 * 86_400)
      .describe('How long the old key still works; 0: not at all.'),
  })
  .meta({ id: 'RotateApiKeyRequestV1' })

const KeyInfo = z
  .object({
    prefix: z.string().describe('The public part, before the dot.'),
    name,
    created_at: Timestamp,
    expires_at: Timestamp.nullable(),
    last_used_at: Timestamp.nullable().describe('Written every few seconds.'),
  })
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
      method: 'POST',
      path: `${path}/{api_key_prefix}/rotate`,
      permission: 'federated-keys:manage',
      summary: 'Mint a successor, and end the key after a grace',
      tag,
      body: RotateKeyRequest,
      response: CreatedKey,
      handler: ({ workspace, params, body, transaction }) =>
        rotateKey(workspace, { ...params, graceMs: body.grace_seconds * 1000 }, { ...parts, transaction }),
      audit: ({ prefix }, { params }) => ({
        event_type: 'FEDERATED_KEY_ROTATED',
        prefix,
        previous_prefix: params.api_key_prefix,
        group_id: params.group_id,
      }),
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
  { groupId, name, expires_at }: CreateKeyRequest & { groupId: string },
  parts: WriteParts,
): Promise<CreatedKey> {
  await findGroup(workspace.id, groupId, parts.transaction.queries)
  const expiresAtMs = expires_at === null ? null : parseUtcTime('expires_at', expires_at)
  if (expiresAtMs !== null && expiresAtMs <= parts.clock.now()) {
    throw invalid('expires_at', 'Must be a time to come.')
  }
  const key = mintKey(workspace.key_prefix)
  await insertFederatedKey({ workspaceId: workspace.id, groupId, key, name, expiresAtMs }, parts)
  return { api_key: key.key, prefix: key.prefix, name }
}

async function listKeys(
  workspaceId: string,
  request: PageRequest & { groupId: string },
  queries: Queries,
): Promise<Keys> {
  await findGroup(workspaceId, request.groupId, queries)
  return page(await selectFederatedKeys(workspaceId, request, queries), request, toKeyInfo)
}

interface KeyPath {
  group_id: string
  api_key_prefix: string
}

async function findKey(workspaceId: string, keyPath: KeyPath, queries: Queries): Promise<FederatedKeyRow> {
  await findGroup(workspaceId, keyPath.group_id, queries)
  return findFederatedKey(workspaceId, { groupId: keyPath.group_id, prefix: keyPath.api_key_prefix }, queries)
}

/** The successor may do what the old key may, and ends when it would have ended. */
async function rotateKey(
  workspace: WorkspaceRow,
  { graceMs, ...keyPath }: KeyPath & { graceMs: number },
  parts: WriteParts,
): Promise<CreatedKey> {
  const old = await findKey(workspace.id, keyPath, parts.transaction.queries)
  const nowMs = parts.clock.now()
  if (old.successor_prefix !== null) {
    throw new ApiError('VALIDATION_ERROR', {
      message: `This key has been rotated already; its successor is ${old.successor_prefix}.`,
    })
  }
  if (old.expires_at !== null && old.expires_at <= nowMs) {
    throw new ApiError('VALIDATION_ERROR', { message: 'This key has expired; mint a new one.' })
  }
  const key = mintKey(workspace.key_prefix)
  await insertFederatedKey(
    {
      workspaceId: workspace.id,
      groupId: old.group_id,
      key,
      name: old.name,
      expiresAtMs: old.expires_at,
      slugs: old.slugs === null ? null : JSON.parse(old.slugs),
    },
    parts,
  )
  const endsAtMs = Math.min(nowMs + graceMs, old.expires_at ?? Number.MAX_SAFE_INTEGER)
  const ending = graceMs === 0 ? { revoked_at: nowMs } : { expires_at: endsAtMs }
  await updateFederatedKey(old, { ...ending, successor_prefix: key.prefix }, parts)
  return { api_key: key.key, prefix: key.prefix, name: old.name }
}

async function revokeKey(workspaceId: string, keyPath: KeyPath, parts: WriteParts): Promise<KeyTombstone> {
  const key = await findKey(workspaceId, keyPath, parts.transaction.queries)
  await updateFederatedKey(key, { revoked_at: parts.clock.now() }, parts)
  return { prefix: key.prefix }
}

function toKeyInfo({ prefix, name, created_at, expires_at, last_used_at }: FederatedKeyRow): KeyInfo {
  return {
    prefix,
    name,
    created_at: timestamp(created_at),
    expires_at: expires_at === null ? null : timestamp(expires_at),
    last_used_at: last_used_at === null ? null : timestamp(last_used_at),
  }
}
