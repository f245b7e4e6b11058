export const outcomes = ['completed', 'client_closed', 'upstream_cut'] as const
export type Outcome = (typeof outcomes)[number]

export const usageSources = ['upstream', 'estimated'] as const
export type UsageSource = (typeof usageSources)[number]

export interface TokenCounts {
  /** Prompt tokens, the cached ones included. */
  inputTokens: number
  outputTokens: number
  cachedInputTokens: number
}

/** The record of one inference request that upstream served, wholly or in part (contract §14). */
export interface BillingEvent {
  /** A ULID, made once when the event is written; whatever happens to the event later, it is the same. */
  idempotencyKey: string
  workspaceId: string
  requestId: string
  /** Wall clock, when the event was written: just before the response's last byte. */
  recordedAtMs: number
  /** Wall clock, when the request was admitted: its UTC day is the day the request counts towards. */
  admittedAtMs: number
  /** The process whose counters of the day counted it (`Hold.node`); empty for counters in this process alone. */
  node: string
  /** The request's `metadata`, as JSON text. */
  requestMetadata: string | null
  modelSlug: string
  apiKeyPrefix: string
  /** Null, like `externalEntityId`, for calls with a workspace key. */
  groupId: string | null
  externalEntityId: string | null
  /** The groups whose day counters this request counts towards. */
  countedGroups: readonly string[]
  tokens: TokenCounts
  outcome: Outcome
  usageSource: UsageSource
}
