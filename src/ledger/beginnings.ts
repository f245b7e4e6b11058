import type { Queries } from '../storage/database.ts'
import type { LedgerBeginningRow } from '../storage/tables.ts'

/** Where the workspace's record begins: after the last event that retention has removed. */
export async function beginningOf(queries: Queries, workspaceId: string): Promise<LedgerBeginningRow> {
  const row = await queries
    .selectFrom('ledger_beginnings')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .executeTakeFirst()
  return row ?? { workspace_id: workspaceId, position: 0, sequence: 0, day: '' }
}
