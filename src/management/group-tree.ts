import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import { bySlug } from '../limits/effective-limits.ts'
import type { Queries } from '../storage/database.ts'
import type { GroupRow } from '../storage/tables.ts'
import type { ModelConfig } from './model-config.ts'
import { owned } from './owned.ts'

/** How many groups are read or written together: with 20 models each, a turn of the event loop takes some 5 ms for them. */
export const groupsPerTurn = 50

/** A group's row with its models read. */
export interface StoredGroup extends Omit<GroupRow, 'models'> {
  models: ReadonlyMap<string, ModelConfig>
}

/** A group, then its ancestors up to the root. */
export type GroupPath = readonly [StoredGroup, ...StoredGroup[]]

/** The group's row: 403 where another workspace has it, 404 where nobody does. */
export async function findGroup(workspaceId: string, id: string, queries: Queries): Promise<GroupRow> {
  const row = await queries.selectFrom('groups').selectAll().where('id', '=', id).executeTakeFirst()
  return owned(workspaceId, row, 'group')
}

/** The group and its ancestors. */
export async function findPath(workspaceId: string, id: string, queries: Queries): Promise<GroupPath> {
  const row = await findGroup(workspaceId, id, queries)
  const pathOf = await readPaths(workspaceId, [row], queries)
  return pathOf(row)
}

/** The paths of `rows`: their ancestors are read in one query, however many they are. */
export async function readPaths(
  workspaceId: string,
  rows: readonly GroupRow[],
  queries: Queries,
): Promise<(row: GroupRow) => GroupPath> {
  const ids = new Set(rows.flatMap(ancestorIds))
  const ancestors =
    ids.size === 0
      ? []
      : await queries
          .selectFrom('groups')
          .selectAll()
          .where('workspace_id', '=', workspaceId)
          .where('id', 'in', [...ids])
          .execute()
  const byId = new Map(ancestors.map((row) => [row.id, toStoredGroup(row)]))
  return (row) => [
    toStoredGroup(row),
    ...ancestorIds(row)
      .map((id) => byId.get(id))
      .filter((found) => found !== undefined),
  ]
}

/** From its parent up. */
function ancestorIds({ path }: GroupRow): string[] {
  return path.split('/').slice(1)
}

/**
 * All groups below one, each behind its parent, a few in each turn of the event loop: there may be 100,000, and customers
 * are served meanwhile. Within a transaction that has locked the workspace it finds one state of the tree.
 */
export async function* descendantsInTurns(id: string, queries: Queries): AsyncGenerator<GroupRow[], void> {
  const parents = [id]
  for (let parent = parents.pop(); parent !== undefined; parent = parents.pop()) {
    let children: (GroupRow & { has_children: unknown })[]
    let lastId = ''
    do {
      await eventLoopTurn()
      children = await childrenAfter(lastId, parent, queries)
      yield children
      for (const child of children) if (child.has_children) parents.push(child.id)
      lastId = children.at(-1)?.id ?? lastId
    } while (children.length === groupsPerTurn)
  }
}

/** In the order of `groups_by_parent`. */
function childrenAfter(lastId: string, parent: string, queries: Queries) {
  return queries
    .selectFrom('groups')
    .selectAll()
    .select(({ exists, selectFrom }) =>
      exists(selectFrom('groups as below').select('below.id').whereRef('below.parent_group_id', '=', 'groups.id')).as(
        'has_children',
      ),
    )
    .where('parent_group_id', '=', parent)
    .where('id', '>', lastId)
    .orderBy('id')
    .limit(groupsPerTurn)
    .execute()
}

/** The row with its models read. */
export function toStoredGroup(row: GroupRow): StoredGroup {
  return { ...row, models: bySlug(JSON.parse(row.models)) }
}
