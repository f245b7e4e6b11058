import type { Queries, Transaction } from '../storage/database.ts'
import type { WebhookRow } from '../storage/tables.ts'
import type { DueDelivery } from './attempt.ts'
import { claimDueDeliveries } from './delivery-claims.ts'
import { openNextDelivery } from './next-delivery.ts'

/** What is to be sent to one webhook now, claimed. */
export interface WebhookWork {
  /** Deliveries of events that were never sent. */
  firsts: DueDelivery[]
  /** Deliveries that are due again. */
  repeats: DueDelivery[]
  /** After how long one of the others is due; null where no other is pending. */
  nextDueAfterMs: number | null
}

export type WebhookName = Pick<WebhookRow, 'id' | 'workspace_id'>

export interface WorkLimits {
  firstsMax: number
  repeatsMax: number
  /** Of both together. */
  attemptsMax: number
  /** By the wall clock. */
  nowMs: number
  /** Until when the claims hold. */
  claimedUntilMs: number
  /** A receiver that fails is given no new events while so many deliveries wait for it. */
  isFailing: boolean
}

const pendingMax = 1_000

/** Takes what there is to send to a webhook, within `limits`; null where the webhook has been deleted. */
export async function takeWork(
  webhookId: string,
  transaction: Transaction,
  limits: WorkLimits,
): Promise<WebhookWork | null> {
  const webhook = await findWebhook(webhookId, transaction.queries)
  if (webhook === null) return null
  const { claimed, nextDueAfterMs } = await claimDueDeliveries(webhookId, transaction, {
    ...limits,
    max: Math.min(limits.repeatsMax, limits.attemptsMax),
  })
  const repeats = claimed.map((delivery) => ({ delivery, webhook }))
  const isHeldBack = limits.isFailing && (await hasManyPending(webhookId, transaction.queries))
  const firstsMax = isHeldBack ? 0 : Math.min(limits.firstsMax, limits.attemptsMax - repeats.length)
  const firsts = await openDeliveries(webhook, transaction, { ...limits, max: firstsMax })
  return { firsts, repeats, nextDueAfterMs }
}

/** The webhooks that have something to send, now or later. */
export function webhooksWithWork(queries: Queries): Promise<WebhookName[]> {
  return queries
    .selectFrom('webhooks')
    .leftJoin('ledger_heads', 'ledger_heads.workspace_id', 'webhooks.workspace_id')
    .select(['webhooks.id', 'webhooks.workspace_id'])
    .where('deleted_at', 'is', null)
    .where((eb) =>
      eb.or([
        eb('ledger_heads.position', '>', eb.ref('webhooks.position')),
        eb.exists(
          eb
            .selectFrom('webhook_deliveries')
            .select('webhook_deliveries.id')
            .whereRef('webhook_deliveries.webhook_id', '=', 'webhooks.id')
            .where('status', '=', 'pending'),
        ),
      ]),
    )
    .execute()
}

/** The webhooks whose `column` has one of `values`. */
export async function findWebhooks(
  column: keyof WebhookName,
  values: readonly string[],
  queries: Queries,
): Promise<WebhookName[]> {
  if (values.length === 0) return []
  return queries
    .selectFrom('webhooks')
    .select(['id', 'workspace_id'])
    .where(column, 'in', values)
    .where('deleted_at', 'is', null)
    .execute()
}

async function findWebhook(id: string, queries: Queries): Promise<WebhookRow | null> {
  const row = await queries
    .selectFrom('webhooks')
    .selectAll()
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  return row ?? null
}

async function hasManyPending(webhookId: string, queries: Queries): Promise<boolean> {
  const rowAtBound = await queries
    .selectFrom('webhook_deliveries')
    .select('id')
    .where('webhook_id', '=', webhookId)
    .where('status', '=', 'pending')
    .orderBy('next_attempt_at')
    .limit(1)
    .offset(pendingMax)
    .executeTakeFirst()
  return rowAtBound !== undefined
}

async function openDeliveries(
  webhook: WebhookRow,
  transaction: Transaction,
  { max, ...times }: { max: number; nowMs: number; claimedUntilMs: number },
): Promise<DueDelivery[]> {
  const opened: DueDelivery[] = []
  for (let from = webhook; opened.length < max; ) {
    const next = await openNextDelivery(from, transaction, times)
    if (next === null) break
    opened.push(next)
    from = next.webhook
  }
  return opened
}
