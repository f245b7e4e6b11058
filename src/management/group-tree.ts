import { notFound } from '../errors.ts'
import { bySlug } from '../limits/effective-limits.ts'
import type { Queries } from '../storage/database.ts'
import type { GroupRow } from '../storage/tables.ts'
import type { ModelConfig } from './model-config.ts'
import { owned } from './owned.ts'

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

/** The paths of `rows`, read in one query however many they are. */
export async function readPaths(
  workspaceId: string,
  rows: readonly GroupRow[],
  queries: Queries,
): Promise<(row: GroupRow) => GroupPath> {
  const ids = new Set(rows.flatMap(({ path }) => path.split('/')))
  const onPaths = await queries
    .selectFrom('groups')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('id', 'in', [...ids])
    .execute()
  const byId = new Map(onPaths.map((row) => [row.id, toStoredGroup(row)]))
  return ({ path }) => {
    const [group, ...ancestors] = path
      .split('/')
      .map((id) => byId.get(id))
      .filter((found) => found !== undefined)
    if (group === undefined) throw notFound('group')
    return [group, ...ancestors]
  }
}

/** All groups below one. */
export async function readDescendants(workspaceId: string, id: string, queries: Queries): Promise<StoredGroup[]> {
  const rows = await descendants(workspaceId, id, queries).selectAll().execute()
  return rows.map(toStoredGroup)
}

/** The same as a query, to be part of another. */
export function descendants(workspaceId: string, id: string, queries: Queries) {
  return queries
    .withRecursive('descendants', (query) =>
      query
        .selectFrom('groups')
        .selectAll()
        .where('workspace_id', '=', workspaceId)
        .where('parent_group_id', '=', id)
        .unionAll(
          query
            .selectFrom('groups')
            .innerJoin('descendants', 'descendants.id', 'groups.parent_group_id')
            .selectAll('groups'),
        ),
    )
    .selectFrom('descendants')
}

function toStoredGroup(row: GroupRow): StoredGroup {
  return { ...row, models: bySlug(JSON.parse(row.models)) }
}
