import type { MintedKey } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Transaction } from '../storage/database.ts'
import type { WorkspaceKeyRow } from '../storage/tables.ts'

type Bounds = Pick<WorkspaceKeyRow, 'name' | 'team_id' | 'person_id' | 'role_bound' | 'model_ids' | 'environments'>

export interface NewWorkspaceKey extends Pick<WorkspaceKeyRow, 'workspace_id' | 'type'>, Partial<Bounds> {
  key: MintedKey
}

export interface RowParts {
  transaction: Transaction
  clock: Clock
  changeLog: ChangeLog
}

/** Stores what is kept of a new workspace key; what is left out bounds it to nothing. */
export async function insertWorkspaceKey(
  { key, ...given }: NewWorkspaceKey,
  { transaction, clock, changeLog }: RowParts,
): Promise<WorkspaceKeyRow> {
  const row: WorkspaceKeyRow = {
    id: newId(clock.now()),
    prefix: key.prefix,
    hash: key.hash,
    name: null,
    team_id: null,
    person_id: null,
    role_bound: null,
    model_ids: null,
    environments: null,
    ...given,
    created_at: clock.now(),
    last_used_at: null,
    revoked_at: null,
  }
  await transaction.queries.insertInto('workspace_keys').values(row).execute()
  changeLog.record(transaction, { kind: 'key', hash: row.hash })
  return row
}

/** Ends keys for good: their rows stay, so that their prefixes are never given out again. */
export async function revokeWorkspaceKeys(
  rows: readonly WorkspaceKeyRow[],
  { transaction, clock, changeLog }: RowParts,
): Promise<void> {
  for (const { id, hash } of rows) {
    await transaction.queries
      .updateTable('workspace_keys')
      .set({ revoked_at: clock.now() })
      .where('id', '=', id)
      .execute()
    changeLog.record(transaction, { kind: 'key', hash })
  }
}

/** Ends all keys of a team, or of a person. */
export async function revokeKeysOf(
  { workspaceId, column, id }: { workspaceId: string; column: 'team_id' | 'person_id'; id: string },
  parts: RowParts,
): Promise<void> {
  const rows = await parts.transaction.queries
    .selectFrom('workspace_keys')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where(column, '=', id)
    .where('revoked_at', 'is', null)
    .execute()
  await revokeWorkspaceKeys(rows, parts)
}
