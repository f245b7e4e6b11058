import { z } from 'zod'
import type { Queries } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import { type DeliveryStatus, deliveryStatuses, type WebhookDeliveryRow } from '../storage/tables.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { findWebhook } from './webhook-row.ts'

const DeliveryStatusV1 = z.enum(deliveryStatuses).meta({ id: 'WebhookDeliveryStatusV1' })

const Delivery = z
  .object({
    id: z.string(),
    request_id: z.string().describe('`X-Baseten-Request-ID`, the same on every attempt.'),
    status: DeliveryStatusV1,
    event_count: z.int(),
    first_sequence: z.int().describe('Of its events, which follow one another without a gap.'),
    last_sequence: z.int(),
    attempts: z.int().describe('Since it was last asked for.'),
    first_attempt_at: Timestamp.nullable(),
    last_attempt_at: Timestamp.nullable(),
    next_attempt_at: Timestamp.nullable().describe('Null unless pending.'),
    response_status: z.int().nullable().describe('What the receiver said last; null where it did not answer.'),
    error: z.string().nullable().describe('Why there was no answer to the last attempt.'),
    created_at: Timestamp,
    finished_at: Timestamp.nullable().describe('When it was delivered, or given up.'),
  })
  .meta({ id: 'WebhookDeliveryV1' })
type Delivery = z.output<typeof Delivery>

const Deliveries = z
  .object({ items: z.array(Delivery), pagination: Pagination })
  .meta({ id: 'WebhookDeliveriesResponseV1' })
type Deliveries = z.output<typeof Deliveries>

/** What was sent to a webhook, and what came of it (contract §14). */
export function webhookDeliveryRoutes(): Route[] {
  return [
    defineRoute({
      method: 'GET',
      path: '/v1/gateway/webhooks/{webhook_id}/deliveries',
      permission: 'webhooks:view',
      summary: "List a webhook's deliveries",
      tag: 'Billing',
      query: { ...pageQuery, status: DeliveryStatusV1.optional().describe('Only deliveries in this state.') },
      response: Deliveries,
      handler: ({ workspace, params, query, queries }) =>
        listDeliveries(workspace.id, { webhookId: params.webhook_id, ...query }, queries),
    }),
  ]
}

async function listDeliveries(
  workspaceId: string,
  { webhookId, status, ...request }: PageRequest & { webhookId: string; status?: DeliveryStatus | undefined },
  queries: Queries,
): Promise<Deliveries> {
  await findWebhook(workspaceId, webhookId, queries)
  const rows = await queries
    .selectFrom('webhook_deliveries')
    .selectAll()
    .where('webhook_id', '=', webhookId)
    .$if(status !== undefined, (query) => query.where('status', '=', status ?? 'pending'))
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toDelivery)
}

function toDelivery(row: WebhookDeliveryRow): Delivery {
  const { id, request_id, status, first_sequence, last_sequence, attempts, response_status, error } = row
  return {
    id,
    request_id,
    status,
    event_count: last_sequence - first_sequence + 1,
    first_sequence,
    last_sequence,
    attempts,
    first_attempt_at: timestampOrNull(row.first_attempt_at),
    last_attempt_at: timestampOrNull(row.last_attempt_at),
    next_attempt_at: timestampOrNull(row.next_attempt_at),
    response_status,
    error,
    created_at: timestamp(row.created_at),
    finished_at: timestampOrNull(row.finished_at),
  }
}

function timestampOrNull(epochMs: number | null): string | null {
  return epochMs === null ? null : timestamp(epochMs)
}
