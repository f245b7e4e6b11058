import { ApiError, notFound } from '../errors.ts'

/** `row` itself: a 404 where there is none, a 403 where it is another workspace's (contract §4). */
export function owned<Row extends { workspace_id: string }>(
  workspaceId: string,
  row: Row | undefined,
  resource: string,
): Row {
  if (row === undefined) throw notFound(resource)
  if (row.workspace_id !== workspaceId) {
    throw new ApiError('FORBIDDEN', { message: `This ${resource} belongs to another workspace.` })
  }
  return row
}
