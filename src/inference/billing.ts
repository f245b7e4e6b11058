import type { Clock } from '../clock.ts'
import type { Caller } from '../directory/directory.ts'
import { newIdempotencyKey } from '../id.ts'
import type { BillingEvent, Outcome, TokenCounts, UsageSource } from '../ledger/billing-event.ts'
import type { InferenceRequest } from './request.ts'

/** What a request came to, in the end. */
export interface Served {
  tokens: TokenCounts
  outcome: Outcome
  usageSource: UsageSource
}

/** The record of a request that was served, wholly or in part (contract §14). */
export function billingEvent({
  clock,
  caller,
  request,
  requestId,
  reservation: { admittedAtMs, node },
  served,
}: {
  clock: Clock
  caller: Caller
  request: InferenceRequest
  requestId: string
  reservation: Pick<BillingEvent, 'admittedAtMs' | 'node'>
  served: Served
}): BillingEvent {
  const group = caller.kind === 'federated' ? caller.group : null
  const recordedAtMs = clock.now()
  return {
    idempotencyKey: newIdempotencyKey(recordedAtMs),
    workspaceId: caller.workspaceId,
    requestId,
    recordedAtMs,
    admittedAtMs,
    node,
    requestMetadata: request.metadata,
    modelSlug: request.slug,
    apiKeyPrefix: caller.apiKeyPrefix,
    groupId: group?.record.id ?? null,
    externalEntityId: group?.record.externalEntityId ?? null,
    countedGroups: group?.countedGroups ?? [],
    ...served,
  }
}
