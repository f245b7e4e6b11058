import { notFound } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { GroupRow } from '../storage/tables.ts'
import { findGroup } from './group-tree.ts'

/** Whether the older API shows the group as a user: a root whose tree is INDEPENDENT (contract §9). */
export function isUser({ parent_group_id, limit_enforcement }: GroupRow): boolean {
  return parent_group_id === null && limit_enforcement === 'INDEPENDENT'
}

/** The user's row: 403 where another workspace has it, 404 where nobody does, or where the group is no user. */
export async function findUser(workspaceId: string, id: string, queries: Queries): Promise<GroupRow> {
  const group = await findGroup(workspaceId, id, queries)
  if (!isUser(group)) throw notFound('user')
  return group
}
