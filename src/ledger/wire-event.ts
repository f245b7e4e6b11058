import type { Outcome, TokenCounts, UsageSource } from './billing-event.ts'
import type { RecordedEvent } from './event-row.ts'

/** A billing event as labs see it, in webhooks and in `GET /v1/gateway/events` (contract §14). */
export interface WireEvent {
  idempotencyKey: string
  timestamp: string
  requestId: string
  requestMetadata: object
  modelSlug: string
  externalEntityId: string | null
  externalCustomerId: string | null
  apiKeyPrefix: string
  tokens: TokenCounts
  sequence: number | null
  outcome: Outcome
  usageSource: UsageSource
  estimated: boolean
}

/** The same event gives the same members, in the same order, whenever it is asked for. */
export function toWireEvent(event: RecordedEvent): WireEvent {
  return {
    idempotencyKey: event.idempotencyKey,
    timestamp: new Date(event.recordedAtMs).toISOString(),
    requestId: event.requestId,
    requestMetadata: event.requestMetadata === null ? {} : JSON.parse(event.requestMetadata),
    modelSlug: event.modelSlug,
    externalEntityId: event.externalEntityId,
    externalCustomerId: event.externalEntityId,
    apiKeyPrefix: event.apiKeyPrefix,
    tokens: event.tokens,
    sequence: event.sequence,
    outcome: event.outcome,
    usageSource: event.usageSource,
    estimated: event.usageSource === 'estimated',
  }
}
