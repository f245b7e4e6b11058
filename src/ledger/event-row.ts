import type { EventRow } from '../storage/tables.ts'
import type { BillingEvent } from './billing-event.ts'

/** A billing event as the ledger holds it. */
export interface RecordedEvent extends Omit<BillingEvent, 'node'> {
  /** Per workspace, over all events, ascending by one. */
  position: number
  /** Per workspace, over billable events only, ascending by one; null for calls with a workspace key. */
  sequence: number | null
}

export function toEventRow(
  event: BillingEvent,
  { position, sequence }: Pick<EventRow, 'position' | 'sequence'>,
): EventRow {
  return {
    idempotency_key: event.idempotencyKey,
    workspace_id: event.workspaceId,
    position,
    sequence,
    request_id: event.requestId,
    recorded_at: event.recordedAtMs,
    admitted_at: event.admittedAtMs,
    request_metadata: event.requestMetadata,
    model_slug: event.modelSlug,
    api_key_prefix: event.apiKeyPrefix,
    group_id: event.groupId,
    external_entity_id: event.externalEntityId,
    counted_groups: event.countedGroups.join('/'),
    input_tokens: event.tokens.inputTokens,
    output_tokens: event.tokens.outputTokens,
    cached_input_tokens: event.tokens.cachedInputTokens,
    outcome: event.outcome,
    usage_source: event.usageSource,
  }
}

export function toRecordedEvent(row: EventRow): RecordedEvent {
  return {
    idempotencyKey: row.idempotency_key,
    workspaceId: row.workspace_id,
    position: row.position,
    sequence: row.sequence,
    requestId: row.request_id,
    recordedAtMs: row.recorded_at,
    admittedAtMs: row.admitted_at,
    requestMetadata: row.request_metadata,
    modelSlug: row.model_slug,
    apiKeyPrefix: row.api_key_prefix,
    groupId: row.group_id,
    externalEntityId: row.external_entity_id,
    countedGroups: row.counted_groups === '' ? [] : row.counted_groups.split('/'),
    tokens: {
      inputTokens: row.input_tokens,
      outputTokens: row.output_tokens,
      cachedInputTokens: row.cached_input_tokens,
    },
    outcome: row.outcome,
    usageSource: row.usage_source,
  }
}
