import type { Queries } from '../storage/database.ts'
import type { WebhookRow } from '../storage/tables.ts'
import { owned } from './owned.ts'

/** The webhook's row: 403 where another workspace has it, 404 where nobody does, or no longer. */
export async function findWebhook(workspaceId: string, id: string, queries: Queries): Promise<WebhookRow> {
  const row = await queries
    .selectFrom('webhooks')
    .selectAll()
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  return owned(workspaceId, row, 'webhook')
}
