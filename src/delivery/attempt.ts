import { signingSecretPurpose } from '../access/signing-secret.ts'
import type { Clock } from '../clock.ts'
import { toRecordedEvent } from '../ledger/event-row.ts'
import type { Postbox } from '../outbound.ts'
import type { Queries } from '../storage/database.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import type { EventRow, WebhookDeliveryRow, WebhookRow } from '../storage/tables.ts'
import { deliveryBody } from './payload.ts'
import { type AfterAttempt, type AttemptResult, afterAttempt } from './schedule.ts'
import { signatureHeaders } from './signature.ts'

export interface AttemptParts {
  queries: Queries
  postbox: Postbox
  secretBox: SecretBox
  clock: Clock
}

/** A delivery whose turn it is, with the webhook as it is now. */
export interface DueDelivery {
  delivery: WebhookDeliveryRow
  webhook: WebhookRow
}

export interface FinishedAttempt {
  delivery: WebhookDeliveryRow
  startedMs: number
  endedMs: number
  result: AttemptResult
  after: AfterAttempt
}

/** Sends a delivery once, and says what came of it and what is to come. */
export async function attempt({ delivery, webhook }: DueDelivery, parts: AttemptParts): Promise<FinishedAttempt> {
  const { clock } = parts
  const startedMs = clock.now()
  const result = await send({ delivery, webhook }, parts)
  const endedMs = clock.now()
  const after = afterAttempt(result, {
    attempts: delivery.attempts + 1,
    firstAttemptMs: delivery.first_attempt_at ?? startedMs,
    endedMs,
    retryWindowSeconds: webhook.retry_window_seconds,
  })
  return { delivery, startedMs, endedMs, result, after }
}

/** The body is made anew from the record each time: a delivery that waits for its next attempt takes no memory. */
async function send({ delivery, webhook }: DueDelivery, parts: AttemptParts): Promise<AttemptResult> {
  const rows = await readEvents(delivery, parts.queries)
  if (rows.length !== delivery.last_sequence - delivery.first_sequence + 1) {
    return { answered: false, failure: 'events-removed' }
  }
  const body = deliveryBody(rows.map(toRecordedEvent))
  return sendSigned({ webhook, requestId: delivery.request_id, body }, parts)
}

function readEvents(
  { workspace_id, first_position, last_position }: WebhookDeliveryRow,
  queries: Queries,
): Promise<EventRow[]> {
  return queries
    .selectFrom('events')
    .selectAll()
    .where('workspace_id', '=', workspace_id)
    .where('position', '>=', first_position)
    .where('position', '<=', last_position)
    .where('sequence', 'is not', null)
    .orderBy('position')
    .execute()
}

export interface SignedPost {
  webhook: WebhookRow
  requestId: string
  body: Buffer
}

/** One signed POST to the webhook's receiver. */
export function sendSigned(
  { webhook, requestId, body }: SignedPost,
  { postbox, secretBox, clock }: Omit<AttemptParts, 'queries'>,
): Promise<AttemptResult> {
  const nowMs = clock.now()
  const headers = {
    'content-type': 'application/json',
    'user-agent': 'Tollgate',
    ...signatureHeaders({ requestId, nowMs, body, secrets: presentSecrets(webhook, { secretBox, nowMs }) }),
  }
  return postbox.post({ url: webhook.url, headers, body })
}

/** The secret that signs, and the one before it while a rotation lasts. */
function presentSecrets(
  { id, sealed_secret, sealed_previous_secret, previous_secret_until }: WebhookRow,
  { secretBox, nowMs }: { secretBox: SecretBox; nowMs: number },
): string[] {
  const rotates = sealed_previous_secret !== null && previous_secret_until !== null && nowMs < previous_secret_until
  const sealed = rotates ? [sealed_secret, sealed_previous_secret] : [sealed_secret]
  return sealed.map((secret) => secretBox.open(secret, signingSecretPurpose(id)))
}
