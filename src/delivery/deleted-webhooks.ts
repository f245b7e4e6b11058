import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import type { Queries } from '../storage/database.ts'

const rowsPerStatement = 500

/**
 * Removes the deliveries of deleted webhooks, and then these. A webhook may leave millions of them: they go a few at a
 * time, and whoever waits for the database comes in between.
 */
export async function removeDeletedWebhooks(queries: Queries, { mayGoOn }: { mayGoOn: () => boolean }): Promise<void> {
  while (mayGoOn()) {
    const webhook = await queries
      .selectFrom('webhooks')
      .select('id')
      .where('deleted_at', 'is not', null)
      .limit(1)
      .executeTakeFirst()
    if (webhook === undefined) return
    const { numDeletedRows } = await queries
      .deleteFrom('webhook_deliveries')
      .where('id', 'in', (eb) =>
        eb.selectFrom('webhook_deliveries').select('id').where('webhook_id', '=', webhook.id).limit(rowsPerStatement),
      )
      .executeTakeFirst()
    if (numDeletedRows < rowsPerStatement) {
      await removeEmptied(webhook.id, queries)
    }
    await eventLoopTurn()
  }
}

/** Other nodes remove, too: those deliveries that they were just removing may be there still. */
async function removeEmptied(webhookId: string, queries: Queries): Promise<void> {
  await queries
    .deleteFrom('webhooks')
    .where('id', '=', webhookId)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('webhook_deliveries').select('id').where('webhook_id', '=', webhookId))),
    )
    .execute()
}
