import { z } from 'zod'
import { mintKey } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { invalid } from '../errors.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries } from '../storage/database.ts'
import { Pagination, page, pageQuery } from '../storage/page.ts'
import type { FederatedKeyRow, GroupRow, WorkspaceRow } from '../storage/tables.ts'
import { distinct } from './distinct.ts'
import {
  findFederatedKey,
  insertFederatedKey,
  type KeyWriteParts,
  selectFederatedKeys,
  updateFederatedKey,
} from './federated-key-row.ts'
import { findUser } from './federated-user-row.ts'
import { type ModelConfig, ModelConfigs } from './model-config.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

const name = z.string().max(255).nullable().describe('For people.')

const CreateKeyRequest = z
  .strictObject({
    name: name.default(null),
    models: distinct(z.strictObject({ slug: z.string() }), {
      by: ({ slug }) => slug,
      message: (slug) => `${slug} is already in the list.`,
    })
      .min(1)
      .optional()
      .describe("Some of the user's models, and no others; left out: all that the user may call, now and later."),
  })
  .meta({ id: 'CreateApiKeyForFederatedUserRequestV1' })
type CreateKeyRequest = z.output<typeof CreateKeyRequest>

const KeyInfo = z
  .object({
    prefix: z.string().describe('The public part, before the dot.'),
    name,
    models: ModelConfigs.describe("What the key may call, with the user's limits."),
    created_at: Timestamp,
    expires_at: Timestamp.nullable(),
    last_used_at: Timestamp.nullable(),
  })
  .meta({ id: 'FederatedUserKeyV1' })
type KeyInfo = z.output<typeof KeyInfo>

const CreatedKey = z
  .object({
    api_key: z.string().describe('The whole key, shown this once.'),
    prefix: z.string(),
    name,
    models: ModelConfigs,
  })
  .meta({ id: 'CreatedFederatedUserKeyV1' })
type CreatedKey = z.output<typeof CreatedKey>

const Keys = z
  .object({ items: z.array(KeyInfo), pagination: Pagination })
  .meta({ id: 'KeysForFederatedUserResponseV1' })
const KeyTombstone = z.object({ prefix: z.string() }).meta({ id: 'KeyForFederatedUserTombstoneV1' })

/** The keys of federated users, which may be narrowed to some of their models (contract §9). */
export function federatedUserKeyRoutes(parts: { changeLog: ChangeLog; clock: Clock }): Route[] {
  const tag = 'Federated users'
  const path = '/v1/gateway/users/{user_id}/api_keys'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'federated-keys:manage',
      summary: 'Mint a key for a user',
      tag,
      body: CreateKeyRequest,
      response: CreatedKey,
      handler: ({ workspace, params, body, transaction }) =>
        mintUserKey(workspace, { userId: params.user_id, ...body }, { ...parts, transaction }),
      audit: ({ prefix }, { params }) => ({ event_type: 'FEDERATED_KEY_CREATED', prefix, group_id: params.user_id }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'federated-keys:view',
      summary: "List a user's keys",
      tag,
      query: pageQuery,
      response: Keys,
      async handler({ workspace, params, query, queries }) {
        const user = await findUser(workspace.id, params.user_id, queries)
        const rows = await selectFederatedKeys(workspace.id, { groupId: user.id, ...query }, queries)
        const models = modelsOf(user)
        return page(rows, query, (row) => toKeyInfo(row, models))
      },
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{api_key_prefix}`,
      permission: 'federated-keys:view',
      summary: "Get a user's key by its prefix",
      tag,
      response: KeyInfo,
      async handler({ workspace, params, queries }) {
        const { key, user } = await findUserKey(workspace.id, params, queries)
        return toKeyInfo(key, modelsOf(user))
      },
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{api_key_prefix}`,
      permission: 'federated-keys:manage',
      summary: "Revoke a user's key, for good",
      tag,
      response: KeyTombstone,
      async handler({ workspace, params, transaction }) {
        const { key } = await findUserKey(workspace.id, params, transaction.queries)
        await updateFederatedKey(key, { revoked_at: parts.clock.now() }, { ...parts, transaction })
        return { prefix: key.prefix }
      },
      audit: ({ prefix }, { params }) => ({ event_type: 'FEDERATED_KEY_DELETED', prefix, group_id: params.user_id }),
    }),
  ]
}

async function mintUserKey(
  workspace: WorkspaceRow,
  { userId, name, models }: CreateKeyRequest & { userId: string },
  parts: KeyWriteParts,
): Promise<CreatedKey> {
  const user = await findUser(workspace.id, userId, parts.transaction.queries)
  const slugs = models?.map(({ slug }) => slug) ?? null
  const usersModels = modelsOf(user)
  const known = new Set(usersModels.map(({ slug }) => slug))
  for (const [index, slug] of (slugs ?? []).entries()) {
    if (!known.has(slug)) throw invalid(`models.${index}.slug`, `The user may not call ${slug}.`)
  }
  const key = mintKey(workspace.key_prefix)
  await insertFederatedKey({ workspaceId: workspace.id, groupId: user.id, key, name, slugs }, parts)
  return { api_key: key.key, prefix: key.prefix, name, models: callable(usersModels, slugs) }
}

async function findUserKey(
  workspaceId: string,
  { user_id, api_key_prefix }: { user_id: string; api_key_prefix: string },
  queries: Queries,
): Promise<{ key: FederatedKeyRow; user: GroupRow }> {
  const user = await findUser(workspaceId, user_id, queries)
  return { user, key: await findFederatedKey(workspaceId, { groupId: user.id, prefix: api_key_prefix }, queries) }
}

function toKeyInfo(key: FederatedKeyRow, models: ModelConfig[]): KeyInfo {
  const { prefix, name, created_at, expires_at, last_used_at } = key
  return {
    prefix,
    name,
    models: callable(models, key.slugs === null ? null : JSON.parse(key.slugs)),
    created_at: timestamp(created_at),
    expires_at: expires_at === null ? null : timestamp(expires_at),
    last_used_at: last_used_at === null ? null : timestamp(last_used_at),
  }
}

/** Those of the user's models that a key narrowed to `slugs` may call. */
function callable(models: ModelConfig[], slugs: readonly string[] | null): ModelConfig[] {
  if (slugs === null) return models
  const narrowedTo = new Set(slugs)
  return models.filter(({ slug }) => narrowedTo.has(slug))
}

function modelsOf({ models }: GroupRow): ModelConfig[] {
  return JSON.parse(models)
}
