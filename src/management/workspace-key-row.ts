import type { MintedKey } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Transaction } from '../storage/database.ts'
import type { WorkspaceKeyRow } from '../storage/tables.ts'

type Bounds = Pick<WorkspaceKeyRow, 'name' | 'team_id' | 'person_id' | 'model_ids' | 'environments'>

export interface NewWorkspaceKey extends Pick<WorkspaceKeyRow, 'workspace_id' | 'type'>, Partial<Bounds> {
  key: MintedKey
}

/** Stores what is kept of a new workspace key; what is left out bounds it to nothing. */
export async function insertWorkspaceKey(
  { key, ...given }: NewWorkspaceKey,
  { transaction, clock, changeLog }: { transaction: Transaction; clock: Clock; changeLog: ChangeLog },
): Promise<WorkspaceKeyRow> {
  const row: WorkspaceKeyRow = {
    id: newId(clock.now()),
    prefix: key.prefix,
    hash: key.hash,
    name: null,
    team_id: null,
    person_id: null,
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
