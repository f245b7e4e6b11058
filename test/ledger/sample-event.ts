import { newIdempotencyKey } from '../../src/id.ts'
import type { BillingEvent } from '../../src/ledger/billing-event.ts'

const noonMs = Date.parse('2026-01-15T12:00:00.000Z')

/** A billing event as an ordinary request makes it, but for `fields`. */
export function sampleEvent(fields: Partial<BillingEvent> = {}): BillingEvent {
  const idempotencyKey = newIdempotencyKey(noonMs)
  const { workspaceId = 'workspace-a' } = fields
  const groupId = `group of ${workspaceId}`
  return {
    idempotencyKey,
    workspaceId,
    requestId: `request-${idempotencyKey}`,
    recordedAtMs: noonMs,
    admittedAtMs: noonMs,
    node: '',
    requestMetadata: null,
    modelSlug: 'acme/large',
    apiKeyPrefix: 'tk_0a1b2c',
    groupId,
    externalEntityId: 'customer-a',
    countedGroups: [groupId],
    tokens: { inputTokens: 12, outputTokens: 5, cachedInputTokens: 3 },
    outcome: 'completed',
    usageSource: 'upstream',
    ...fields,
  }
}

export function sampleEvents(count: number, fields: Partial<BillingEvent> = {}): BillingEvent[] {
  return Array.from({ length: count }, () => sampleEvent(fields))
}

/** A call with a workspace key: recorded, but billed to nobody. */
export function workspaceKeyEvent(fields: Partial<BillingEvent> = {}): BillingEvent {
  return sampleEvent({ groupId: null, externalEntityId: null, countedGroups: [], ...fields })
}
