import { z } from 'zod'
import type { WebhookRow } from '../storage/tables.ts'
import { defineRoute, type Route } from './route.ts'
import { findWebhook } from './webhook-row.ts'

/** What the receiver said: its status, and no more, so that nobody reads through us what they cannot reach. */
const WebhookTest = z
  .object({
    request_id: z.string().describe('`X-Baseten-Request-ID` of the test.'),
    delivered: z.boolean().describe('Whether the receiver answered with 2xx.'),
    response_status: z.int().nullable().describe('Null where there was no answer.'),
    error: z.string().nullable().describe('Why there was no answer.'),
    duration_ms: z.int(),
  })
  .meta({ id: 'WebhookTestV1' })
type WebhookTest = z.output<typeof WebhookTest>

export interface WebhookTestParts {
  /** Sends a signed test event, now and once, and says what came of it. */
  sendTestEvent(webhook: WebhookRow): Promise<SentTest>
}

export interface SentTest {
  requestId: string
  result: { answered: true; status: number } | { answered: false; failure: string }
  tookMs: number
}

/** To see whether a receiver is reached, and verifies signatures, before it matters (contract §14). */
export function webhookTestRoutes({ sendTestEvent }: WebhookTestParts): Route[] {
  return [
    defineRoute({
      method: 'POST',
      path: '/v1/gateway/webhooks/{webhook_id}/test',
      permission: 'webhooks:manage',
      summary: 'Send a signed test event now, and see what the receiver says',
      tag: 'Billing',
      transaction: 'none',
      response: WebhookTest,
      handler: async ({ workspace, params, queries }) =>
        toWebhookTest(await sendTestEvent(await findWebhook(workspace.id, params.webhook_id, queries))),
      audit: (_answer, { params }) => ({ event_type: 'WEBHOOK_TESTED', webhook_id: params.webhook_id }),
    }),
  ]
}

function toWebhookTest({ requestId, result, tookMs }: SentTest): WebhookTest {
  return {
    request_id: requestId,
    delivered: result.answered && result.status >= 200 && result.status < 300,
    response_status: result.answered ? result.status : null,
    error: result.answered ? null : result.failure,
    duration_ms: tookMs,
  }
}
