import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { invalid, notFound } from '../errors.ts'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { deliverySpanMs } from '../storage/tables.ts'
import { owned } from './owned.ts'
import { defineRoute, type Route } from './route.ts'
import { parseUtcTime } from './utc-time.ts'
import { findWebhook } from './webhook-row.ts'

const RedeliverRequest = z
  .strictObject({
    delivery_ids: z.array(z.string()).min(1).max(1000).exactOptional(),
    start_time: z.string().exactOptional().describe('Inclusive, ISO 8601 UTC: deliveries with events from then on.'),
    end_time: z.string().exactOptional().describe('Exclusive, ISO 8601 UTC.'),
    status: z.literal('dead').exactOptional().describe('All that were given up.'),
  })
  .meta({ id: 'RedeliverRequestV1' })
type RedeliverRequest = z.output<typeof RedeliverRequest>

const Redelivered = z
  .object({ redelivered: z.int().describe('How many deliveries are sent again. Pending ones are not among them.') })
  .meta({ id: 'RedeliverResponseV1' })
type Redelivered = z.output<typeof Redelivered>

export interface WebhookRedeliveryParts {
  clock: Clock
  dispatcher: {
    /** Sends what is due to this webhook. */
    webhookChanged(webhookId: string): void
  }
}

/** What is to be sent again (contract §14). */
export function webhookRedeliveryRoutes(parts: WebhookRedeliveryParts): Route[] {
  return [
    defineRoute({
      method: 'POST',
      path: '/v1/gateway/webhooks/{webhook_id}/redeliver',
      permission: 'webhooks:manage',
      summary: 'Send deliveries again, whatever became of them',
      tag: 'Billing',
      body: RedeliverRequest,
      response: Redelivered,
      handler: ({ workspace, params, body, transaction }) =>
        redeliver(workspace.id, { webhookId: params.webhook_id, choice: choiceOf(body) }, { ...parts, transaction }),
      audit: (_answer, { params }) => ({ event_type: 'WEBHOOK_REDELIVERED', webhook_id: params.webhook_id }),
    }),
  ]
}

/** The deliveries that are to be sent again. */
type Choice = { by: 'id'; ids: string[] } | { by: 'time'; startMs: number; endMs: number } | { by: 'death' }

function choiceOf({ delivery_ids, start_time, end_time, status }: RedeliverRequest): Choice {
  const choices: Choice[] = []
  if (delivery_ids !== undefined) choices.push({ by: 'id', ids: delivery_ids })
  if (status !== undefined) choices.push({ by: 'death' })
  if (start_time !== undefined || end_time !== undefined) choices.push(timeChoice(start_time, end_time))
  const [choice] = choices
  if (choice === undefined || choices.length > 1) {
    throw invalid('', 'Give one of delivery_ids, start_time with end_time, and status.')
  }
  return choice
}

function timeChoice(startTime: string | undefined, endTime: string | undefined): Choice {
  const startMs = parseUtcTime('start_time', startTime ?? '')
  const endMs = parseUtcTime('end_time', endTime ?? '')
  if (endMs < startMs) throw invalid('end_time', 'end_time must not be before start_time.')
  return { by: 'time', startMs, endMs }
}

/** Delivered and dead ones begin anew, under their old request ids, as if they had never been tried. */
async function redeliver(
  workspaceId: string,
  { webhookId, choice }: { webhookId: string; choice: Choice },
  { transaction, clock, dispatcher }: WebhookRedeliveryParts & { transaction: Transaction },
): Promise<Redelivered> {
  const { queries } = transaction
  await findWebhook(workspaceId, webhookId, queries)
  let redelivered = 0
  for await (const ids of chosenDeliveries(workspaceId, { webhookId, choice }, queries)) {
    const { numUpdatedRows } = await queries
      .updateTable('webhook_deliveries')
      .set({
        status: 'pending',
        attempts: 0,
        first_attempt_at: null,
        next_attempt_at: clock.now(),
        finished_at: null,
      })
      .where('id', 'in', ids)
      .where('status', '!=', 'pending')
      .executeTakeFirst()
    redelivered += Number(numUpdatedRows)
    // There may be very many: requests are served in between.
    await eventLoopTurn()
  }
  transaction.onCommit(() => dispatcher.webhookChanged(webhookId))
  return { redelivered }
}

/** Ids, a page at a time; the next page relies on those of the page before being pending by then. */
function chosenDeliveries(
  workspaceId: string,
  { webhookId, choice }: { webhookId: string; choice: Choice },
  queries: Queries,
): AsyncGenerator<string[]> {
  switch (choice.by) {
    case 'id':
      return deliveriesById(workspaceId, { webhookId, ids: choice.ids }, queries)
    case 'time':
      return deliveriesByTime(webhookId, choice, queries)
    case 'death':
      return deadDeliveries(webhookId, queries)
  }
}

const idsPerPage = 500

async function* deliveriesById(
  workspaceId: string,
  { webhookId, ids }: { webhookId: string; ids: readonly string[] },
  queries: Queries,
): AsyncGenerator<string[]> {
  const rows = await queries
    .selectFrom('webhook_deliveries')
    .select(['id', 'workspace_id', 'webhook_id'])
    .where('id', 'in', ids)
    .execute()
  const rowOf = new Map(rows.map((row) => [row.id, row]))
  for (const id of ids) {
    if (owned(workspaceId, rowOf.get(id), 'delivery').webhook_id !== webhookId) throw notFound('delivery')
  }
  yield [...rowOf.keys()]
}

/** Those with an event that was recorded within the window. */
async function* deliveriesByTime(
  webhookId: string,
  { startMs, endMs }: { startMs: number; endMs: number },
  queries: Queries,
): AsyncGenerator<string[]> {
  for (let after = { last_recorded_at: startMs, id: '' }; ; ) {
    const rows = await queries
      .selectFrom('webhook_deliveries')
      .select(['id', 'last_recorded_at'])
      .where('webhook_id', '=', webhookId)
      .where((eb) => eb(eb.refTuple('last_recorded_at', 'id'), '>', eb.tuple(after.last_recorded_at, after.id)))
      .where('last_recorded_at', '<', endMs + deliverySpanMs)
      .where('first_recorded_at', '<', endMs)
      .orderBy('last_recorded_at')
      .orderBy('id')
      .limit(idsPerPage)
      .execute()
    const last = rows.at(-1)
    if (last === undefined) return
    yield rows.map(({ id }) => id)
    after = last
  }
}

async function* deadDeliveries(webhookId: string, queries: Queries): AsyncGenerator<string[]> {
  for (;;) {
    const rows = await queries
      .selectFrom('webhook_deliveries')
      .select('id')
      .where('webhook_id', '=', webhookId)
      .where('status', '=', 'dead')
      .limit(idsPerPage)
      .execute()
    if (rows.length === 0) return
    yield rows.map(({ id }) => id)
  }
}
