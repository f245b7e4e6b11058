import { systemClock } from '../src/clock.ts'
import { newId, newIdempotencyKey } from '../src/id.ts'
import type { BillingEvent } from '../src/ledger/billing-event.ts'

/** The event, recorded now, of a small request of the first of `countedGroups`. */
export function sampleEvent({
  countedGroups,
  ...fields
}: Pick<BillingEvent, 'workspaceId' | 'node' | 'externalEntityId' | 'countedGroups'>): BillingEvent {
  const nowMs = systemClock.now()
  return {
    ...fields,
    idempotencyKey: newIdempotencyKey(nowMs),
    requestId: newId(nowMs),
    recordedAtMs: nowMs,
    admittedAtMs: nowMs,
    requestMetadata: '{"user":"somebody"}',
    modelSlug: 'bench/json',
    apiKeyPrefix: 'tk_0123456789ab',
    groupId: String(countedGroups[0]),
    countedGroups,
    tokens: { inputTokens: 12, outputTokens: 9, cachedInputTokens: 0 },
    outcome: 'completed',
    usageSource: 'upstream',
  }
}
