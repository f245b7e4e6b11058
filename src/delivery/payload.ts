import type { RecordedEvent } from '../ledger/event-row.ts'
import { toWireEvent, type WireEvent } from '../ledger/wire-event.ts'

/** The body of a delivery (contract §14): the same events give the same bytes, so a retry repeats them exactly. */
export function deliveryBody(events: readonly RecordedEvent[]): Buffer {
  return bodyOf(events.map(toWireEvent))
}

/**
 * The body of a test: the shape of a real delivery, so that the receiver's own code is what is tested, around one event
 * that nobody can bill. It says `"test": true`, counts no tokens, names a customer that is none, and stands outside of
 * the record: its sequence is 0, which a real event's never is.
 */
export function testBody({ requestId, nowMs }: { requestId: string; nowMs: number }): Buffer {
  const event: WireEvent & { test: true } = {
    test: true,
    idempotencyKey: `test-${requestId}`,
    timestamp: new Date(nowMs).toISOString(),
    requestId,
    requestMetadata: {},
    modelSlug: 'test/webhook',
    externalEntityId: 'webhook-test',
    externalCustomerId: 'webhook-test',
    apiKeyPrefix: 'webhook-test',
    tokens: { inputTokens: 0, outputTokens: 0, cachedInputTokens: 0 },
    sequence: 0,
    outcome: 'completed',
    usageSource: 'upstream',
    estimated: false,
  }
  return bodyOf([event])
}

function bodyOf(events: readonly WireEvent[]): Buffer {
  return Buffer.from(JSON.stringify({ type: 'API_BILLING_USAGE', data: { events } }))
}
