import { z } from 'zod'
import { ApiError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { GroupRow } from '../storage/tables.ts'
import { findUser, isUser } from './federated-user-row.ts'
import { createGroup, deleteGroup, type GroupParts, type GroupWriteParts, updateGroup } from './groups.ts'
import { GivenModelConfigs, ModelConfigs } from './model-config.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

const customer_id = z.string().min(1).max(255).describe("The lab's own id for this customer: unique in the workspace.")

const UpsertUserRequest = z
  .strictObject({ customer_id, models: GivenModelConfigs.min(1).describe('The whole set.') })
  .meta({ id: 'UpsertFederatedUserRequestV1' })
type UpsertUserRequest = z.output<typeof UpsertUserRequest>

const User = z
  .object({ id: z.string(), customer_id, models: ModelConfigs, created_at: Timestamp })
  .meta({ id: 'FederatedUserV1' })
type User = z.output<typeof User>

const Users = z.object({ items: z.array(User), pagination: Pagination }).meta({ id: 'FederatedUsersResponseV1' })
type Users = z.output<typeof Users>

const UserTombstone = z
  .object({ id: z.string(), customer_id, deleted_at: Timestamp })
  .meta({ id: 'FederatedUserTombstoneV1' })
type UserTombstone = z.output<typeof UserTombstone>

/** The older, flat view of groups: a user is a root INDEPENDENT group (contract §9). Nothing is stored twice. */
export function federatedUserRoutes(parts: GroupParts): Route[] {
  const tag = 'Federated users'
  const path = '/v1/gateway/users'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'groups:manage',
      summary: 'Create a user, or replace the models of the one with this customer id',
      tag,
      body: UpsertUserRequest,
      response: User,
      handler: ({ workspace, body, transaction }) => upsertUser(workspace.id, body, { ...parts, transaction }),
      audit: ({ id, customer_id, isNew }) => ({
        event_type: isNew ? 'FEDERATED_USER_CREATED' : 'FEDERATED_USER_UPDATED',
        user_id: id,
        customer_id,
      }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'groups:view',
      summary: 'List users',
      tag,
      query: { ...pageQuery, customer_id: customer_id.optional().describe('Only the user with this id.') },
      response: Users,
      handler: ({ workspace, query, queries }) => listUsers(workspace.id, query, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{user_id}`,
      permission: 'groups:view',
      summary: 'Get a user',
      tag,
      response: User,
      handler: async ({ workspace, params, queries }) => toUser(await findUser(workspace.id, params.user_id, queries)),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{user_id}`,
      permission: 'groups:manage',
      summary: 'Delete a user and revoke its keys; the billing record stays',
      tag,
      response: UserTombstone,
      handler: ({ workspace, params, transaction }) =>
        deleteUser(workspace.id, params.user_id, { ...parts, transaction }),
      audit: ({ id, customer_id }) => ({ event_type: 'FEDERATED_USER_DELETED', user_id: id, customer_id }),
    }),
  ]
}

async function upsertUser(
  workspaceId: string,
  { customer_id, models }: UpsertUserRequest,
  parts: GroupWriteParts,
): Promise<User & { isNew: boolean }> {
  const { queries } = parts.transaction
  const existing = await queries
    .selectFrom('groups')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('external_entity_id', '=', customer_id)
    .executeTakeFirst()
  if (existing !== undefined && !isUser(existing)) {
    throw new ApiError('VALIDATION_ERROR', {
      message: `'${customer_id}' is a group within a tree; change it through /v1/gateway/groups/${existing.id}.`,
    })
  }
  const group =
    existing === undefined
      ? await createGroup(
          workspaceId,
          {
            metadata: { name: null, external_entity_id: customer_id },
            models,
            hierarchy: { limit_enforcement: 'INDEPENDENT', parent_group_id: null },
          },
          parts,
        )
      : await updateGroup(workspaceId, { id: existing.id, models }, parts)
  return {
    id: group.id,
    customer_id,
    models: group.models,
    created_at: group.created_at,
    isNew: existing === undefined,
  }
}

async function listUsers(
  workspaceId: string,
  { customer_id, ...request }: PageRequest & { customer_id?: string | undefined },
  queries: Queries,
): Promise<Users> {
  let matching = queries
    .selectFrom('groups')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('parent_group_id', 'is', null)
    .where('limit_enforcement', '=', 'INDEPENDENT')
  if (customer_id !== undefined) matching = matching.where('external_entity_id', '=', customer_id)
  const rows = await matching
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toUser)
}

async function deleteUser(workspaceId: string, id: string, parts: GroupWriteParts): Promise<UserTombstone> {
  const user = await findUser(workspaceId, id, parts.transaction.queries)
  const { deleted_at } = await deleteGroup(workspaceId, user.id, parts)
  return { id, customer_id: user.external_entity_id, deleted_at }
}

function toUser({ id, external_entity_id, models, created_at }: GroupRow): User {
  return { id, customer_id: external_entity_id, models: JSON.parse(models), created_at: timestamp(created_at) }
}
