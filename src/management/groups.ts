import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import { newId } from '../id.ts'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import {
  bySlug,
  cascadingViolation,
  effectiveModels,
  type GroupOnPath,
  isTighter,
  limitEnforcements,
} from '../limits/effective-limits.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { GroupRow } from '../storage/tables.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'
import {
  descendantsInTurns,
  findGroup,
  findPath,
  type GroupPath,
  groupsPerTurn,
  readPaths,
  type StoredGroup,
  toStoredGroup,
} from './group-tree.ts'
import { EffectiveModelConfig, GivenModelConfigs, ModelConfigs } from './model-config.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

const depthMax = 5

const name = z.string().max(255).nullable().describe('For people; changes at will.')
const external_entity_id = z
  .string()
  .min(1)
  .max(255)
  .describe("The lab's own id for this customer, plan or project: unique in the workspace, never changed.")
const LimitEnforcement = z.enum(limitEnforcements).meta({ id: 'LimitEnforcementV1' })

const GroupMetadata = z.strictObject({ name: name.default(null), external_entity_id }).meta({ id: 'GroupMetadataV1' })

const CreateGroupRequest = z
  .strictObject({
    metadata: GroupMetadata,
    models: GivenModelConfigs.min(1),
    hierarchy: z
      .strictObject({
        limit_enforcement: LimitEnforcement.nullable()
          .default(null)
          .describe("The same in the whole tree. Left out: the parent's, or INDEPENDENT for a root."),
        parent_group_id: z.string().nullable().default(null).describe('Left out: a root.'),
      })
      .meta({ id: 'CreateGroupHierarchyV1' }),
  })
  .meta({ id: 'CreateGroupRequestV1' })
type CreateGroupRequest = z.output<typeof CreateGroupRequest>

const UpdateGroupRequest = z
  .strictObject({
    metadata: z.strictObject({ name: name.exactOptional() }).meta({ id: 'UpdateGroupMetadataV1' }).nullish(),
    models: GivenModelConfigs.nullish().describe(
      'The whole set: a model that it does not list can no longer be called.',
    ),
  })
  .refine(({ metadata, models }) => metadata?.name !== undefined || models != null, {
    error: 'Give metadata.name, models or both.',
  })
  .meta({ id: 'UpdateGroupRequestV1' })
type UpdateGroupRequest = z.output<typeof UpdateGroupRequest>

const Group = z
  .object({
    id: z.string(),
    metadata: GroupMetadata,
    models: ModelConfigs,
    effective_models: z.array(EffectiveModelConfig).describe('What is enforced, inherited limits included.'),
    hierarchy: z
      .object({ limit_enforcement: LimitEnforcement, parent_group_id: z.string().nullable() })
      .meta({ id: 'GroupHierarchyV1' }),
    created_at: Timestamp,
  })
  .meta({ id: 'GroupV1' })
type Group = z.output<typeof Group>

const Groups = z.object({ items: z.array(Group), pagination: Pagination }).meta({ id: 'GroupsResponseV1' })
type Groups = z.output<typeof Groups>

const GroupTombstone = z
  .object({ id: z.string(), metadata: GroupMetadata, deleted_at: Timestamp })
  .meta({ id: 'GroupTombstoneV1' })
type GroupTombstone = z.output<typeof GroupTombstone>

export interface GroupParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The customer tree (contract §7). */
export function groupRoutes(parts: GroupParts): Route[] {
  const tag = 'Groups'
  const path = '/v1/gateway/groups'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'groups:manage',
      summary: 'Create a group',
      tag,
      body: CreateGroupRequest,
      response: Group,
      errors: ['NOT_FOUND'],
      handler: ({ workspace, body, transaction }) => createGroup(workspace.id, body, { ...parts, transaction }),
      audit: (group) => ({ event_type: 'GROUP_CREATED', ...audited(group) }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'groups:view',
      summary: 'List groups',
      tag,
      query: {
        ...pageQuery,
        external_entity_id: external_entity_id.optional().describe('Only the group with this id.'),
      },
      response: Groups,
      handler: ({ workspace, query, queries }) => listGroups(workspace.id, query, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{group_id}`,
      permission: 'groups:view',
      summary: 'Get a group',
      tag,
      response: Group,
      handler: async ({ workspace, params, queries }) =>
        toGroup(await findPath(workspace.id, params.group_id, queries)),
    }),
    defineRoute({
      method: 'PATCH',
      path: `${path}/{group_id}`,
      permission: 'groups:manage',
      summary: "Change a group's name, models or both",
      tag,
      body: UpdateGroupRequest,
      response: Group,
      handler: ({ workspace, params, body, transaction }) =>
        updateGroup(workspace.id, { id: params.group_id, ...body }, { ...parts, transaction }),
      audit: (group) => ({ event_type: 'GROUP_UPDATED', ...audited(group) }),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{group_id}`,
      permission: 'groups:manage',
      summary: 'Delete a group with all groups below it, and revoke their keys',
      tag,
      response: GroupTombstone,
      handler: ({ workspace, params, transaction }) =>
        deleteGroup(workspace.id, params.group_id, { ...parts, transaction }),
      audit: (group) => ({ event_type: 'GROUP_DELETED', ...audited(group) }),
    }),
  ]
}

export interface GroupWriteParts extends GroupParts {
  transaction: Transaction
}

export async function createGroup(
  workspaceId: string,
  { metadata, models, hierarchy }: CreateGroupRequest,
  { transaction, changeLog, clock }: GroupWriteParts,
): Promise<Group> {
  const parentId = hierarchy.parent_group_id
  const ancestors = parentId === null ? [] : await findPath(workspaceId, parentId, transaction.queries)
  const [parent] = ancestors
  const limit_enforcement = hierarchy.limit_enforcement ?? parent?.limit_enforcement ?? 'INDEPENDENT'
  if (parent !== undefined && parent.limit_enforcement !== limit_enforcement) {
    throw invalid('hierarchy.limit_enforcement', `The tree of the parent group is ${parent.limit_enforcement}.`)
  }
  if (ancestors.length >= depthMax) {
    throw invalid('hierarchy.parent_group_id', `A tree is at most ${depthMax} groups deep.`)
  }

  const id = newId(clock.now())
  const group: StoredGroup = {
    id,
    workspace_id: workspaceId,
    ...metadata,
    parent_group_id: parentId,
    path: [id, ...ancestors.map((ancestor) => ancestor.id)].join('/'),
    limit_enforcement,
    models: bySlug(models),
    created_at: clock.now(),
  }
  refuseCascadingViolation(group, { ancestors, descendants: [] })
  await refuseDuplicate(transaction.queries.insertInto('groups').values(toRow(group)).execute(), () =>
    invalid('metadata.external_entity_id', `There is already a group with the id '${metadata.external_entity_id}'.`),
  )
  changeLog.record(transaction, { kind: 'group', groupId: id })
  return toGroup([group, ...ancestors])
}

/** Reads a page in turns: customers are served in between. */
async function listGroups(
  workspaceId: string,
  { external_entity_id, ...request }: PageRequest & { external_entity_id?: string | undefined },
  queries: Queries,
): Promise<Groups> {
  let matching = queries.selectFrom('groups').selectAll().where('workspace_id', '=', workspaceId)
  if (external_entity_id !== undefined) matching = matching.where('external_entity_id', '=', external_entity_id)
  const groups: Group[] = []
  for (let lastId = pageStart(request); ; ) {
    const limit = Math.min(groupsPerTurn, request.limit + 1 - groups.length)
    const rows = await matching.where('id', '>', lastId).orderBy('id').limit(limit).execute()
    const pathOf = await readPaths(workspaceId, rows, queries)
    for (const row of rows) groups.push(toGroup(pathOf(row)))
    lastId = rows.at(-1)?.id ?? lastId
    if (rows.length < limit || groups.length > request.limit) return page(groups, request, (group) => group)
    await eventLoopTurn()
  }
}

export async function updateGroup(
  workspaceId: string,
  { id, metadata, models }: UpdateGroupRequest & { id: string },
  { transaction, changeLog }: GroupWriteParts,
): Promise<Group> {
  const [group, ...ancestors] = await findPath(workspaceId, id, transaction.queries)
  const changed: StoredGroup = {
    ...group,
    name: metadata?.name === undefined ? group.name : metadata.name,
    models: models == null ? group.models : bySlug(models),
  }
  refuseCascadingViolation(changed, { ancestors, descendants: [] })
  if (changed.limit_enforcement === 'CASCADING' && isTighter(changed, group)) {
    for await (const below of descendantsInTurns(id, transaction.queries)) {
      refuseCascadingViolation(changed, { ancestors: [], descendants: below.map(toStoredGroup) })
    }
  }
  await transaction.queries.updateTable('groups').set(toRow(changed)).where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'group', groupId: id })
  return toGroup([changed, ...ancestors])
}

export async function deleteGroup(
  workspaceId: string,
  id: string,
  { transaction, changeLog, clock }: GroupWriteParts,
): Promise<GroupTombstone> {
  const { queries } = transaction
  const { name, external_entity_id } = await findGroup(workspaceId, id, queries)
  const deletedAt = clock.now()
  const ids = [id]
  for await (const below of descendantsInTurns(id, queries)) ids.push(...below.map((group) => group.id))
  // From the lowest up: whoever has groups below it would take all of them with it at once.
  while (ids.length > 0) await deleteGroups(ids.splice(-groupsPerTurn), { deletedAt, transaction })
  changeLog.record(transaction, { kind: 'group', groupId: id })
  return { id, metadata: { name, external_entity_id }, deleted_at: timestamp(deletedAt) }
}

async function deleteGroups(
  ids: readonly string[],
  { deletedAt, transaction: { queries } }: { deletedAt: number; transaction: Transaction },
): Promise<void> {
  await eventLoopTurn()
  await queries
    .updateTable('federated_keys')
    .set({ revoked_at: deletedAt })
    .where('group_id', 'in', ids)
    .where('revoked_at', 'is', null)
    .execute()
  await queries.deleteFrom('groups').where('id', 'in', ids).execute()
}

function refuseCascadingViolation(
  group: StoredGroup,
  surroundings: { ancestors: readonly GroupOnPath[]; descendants: readonly GroupOnPath[] },
): void {
  if (group.limit_enforcement === 'CASCADING' && cascadingViolation(group, surroundings) !== null) {
    throw new ApiError('VALIDATION_ERROR', { message: 'Child group exceeds parent group limit.' })
  }
}

function audited({ id, metadata }: Pick<Group, 'id' | 'metadata'>) {
  return { group_id: id, external_entity_id: metadata.external_entity_id }
}

function toRow(group: StoredGroup): GroupRow {
  return { ...group, models: JSON.stringify([...group.models.values()]) }
}

function toGroup(path: GroupPath): Group {
  const [{ id, name, external_entity_id, models, limit_enforcement, parent_group_id, created_at }] = path
  return {
    id,
    metadata: { name, external_entity_id },
    models: [...models.values()],
    effective_models: effectiveModels(limit_enforcement, path),
    hierarchy: { limit_enforcement, parent_group_id },
    created_at: timestamp(created_at),
  }
}
