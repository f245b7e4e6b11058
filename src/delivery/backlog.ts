import type { Queries } from '../storage/database.ts'

/** Events that webhooks have yet to be sent: those behind their place in the record, and those in pending deliveries. */
export async function pendingEvents(queries: Queries): Promise<number> {
  const { waiting } = await queries
    .selectFrom('webhooks')
    .innerJoin('ledger_heads', 'ledger_heads.workspace_id', 'webhooks.workspace_id')
    .select((eb) => eb.fn.sum<number>(eb('ledger_heads.sequence', '-', eb.ref('webhooks.sequence'))).as('waiting'))
    .where('deleted_at', 'is', null)
    .executeTakeFirstOrThrow()
  const { sending } = await queries
    .selectFrom('webhook_deliveries')
    .select((eb) => eb.fn.sum<number>(eb(eb('last_sequence', '-', eb.ref('first_sequence')), '+', 1)).as('sending'))
    .where('status', '=', 'pending')
    .executeTakeFirstOrThrow()
  return Number(waiting ?? 0) + Number(sending ?? 0)
}

/** Webhooks with deliveries that were given up. Counted by webhook: how many deliveries there are may grow without end. */
export async function webhooksWithDeadDeliveries(queries: Queries): Promise<number> {
  const { webhooks } = await queries
    .selectFrom('webhooks')
    .select((eb) => eb.fn.countAll<number>().as('webhooks'))
    .where('deleted_at', 'is', null)
    .where((eb) =>
      eb.exists(
        eb
          .selectFrom('webhook_deliveries')
          .select('webhook_deliveries.id')
          .whereRef('webhook_deliveries.webhook_id', '=', 'webhooks.id')
          .where('status', '=', 'dead'),
      ),
    )
    .executeTakeFirstOrThrow()
  return Number(webhooks)
}
