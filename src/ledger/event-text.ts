import { isTokenCount, tokensMax } from '../token-bounds.ts'
import type { BillingEvent, Outcome, TokenCounts, UsageSource } from './billing-event.ts'

/**
 * The form in which the journal keeps an event: a JSON array. Without the names of its fields an event takes half
 * the room and half the time to write. The number in front says which form it is: a journal that an earlier
 * version left behind must be readable.
 */
type EventFields = [
  form: number,
  idempotencyKey: string,
  workspaceId: string,
  requestId: string,
  recordedAtMs: number,
  admittedAtMs: number,
  requestMetadata: string | null,
  modelSlug: string,
  apiKeyPrefix: string,
  groupId: string | null,
  externalEntityId: string | null,
  countedGroups: readonly string[],
  inputTokens: number,
  outputTokens: number,
  cachedInputTokens: number,
  outcome: Outcome,
  usageSource: UsageSource,
  /** Not in form 1. */
  node?: string,
]

const currentForm = 2
const forms = [1, currentForm]

/** Throws `RangeError` on token counts that are none: one such event would hold up all that follow it. */
export function eventText(event: BillingEvent): string {
  const { inputTokens, outputTokens, cachedInputTokens } = event.tokens
  if (!isTokenCount(inputTokens) || !isTokenCount(outputTokens) || !isTokenCount(cachedInputTokens)) {
    const counts = JSON.stringify(event.tokens)
    throw new RangeError(`Token counts must be whole numbers from 0 to ${tokensMax}; they are ${counts}.`)
  }
  const fields: EventFields = [
    currentForm,
    event.idempotencyKey,
    event.workspaceId,
    event.requestId,
    event.recordedAtMs,
    event.admittedAtMs,
    event.requestMetadata,
    event.modelSlug,
    event.apiKeyPrefix,
    event.groupId,
    event.externalEntityId,
    event.countedGroups,
    inputTokens,
    outputTokens,
    cachedInputTokens,
    event.outcome,
    event.usageSource,
    event.node,
  ]
  return JSON.stringify(fields)
}

export function eventOfText(text: string): BillingEvent {
  const fields = JSON.parse(text) as EventFields
  if (!forms.includes(fields[0])) {
    throw new Error(`The journal holds an event of form ${fields[0]}; this version reads ${forms.join(', ')}.`)
  }
  const [
    ,
    idempotencyKey,
    workspaceId,
    requestId,
    recordedAtMs,
    admittedAtMs,
    requestMetadata,
    modelSlug,
    apiKeyPrefix,
    groupId,
    externalEntityId,
    countedGroups,
    inputTokens,
    outputTokens,
    cachedInputTokens,
    outcome,
    usageSource,
    node = '',
  ] = fields
  return {
    idempotencyKey,
    workspaceId,
    requestId,
    recordedAtMs,
    admittedAtMs,
    requestMetadata,
    modelSlug,
    apiKeyPrefix,
    groupId,
    externalEntityId,
    countedGroups,
    outcome,
    node,
    ...withinBound({ inputTokens, outputTokens, cachedInputTokens }, usageSource),
  }
}

/**
 * An earlier version wrote whatever an upstream had reported, and sums of that stop the ledger, for everybody. Such an
 * event says the most that one can, and no longer that upstream has counted it.
 */
function withinBound(tokens: TokenCounts, usageSource: UsageSource): Pick<BillingEvent, 'tokens' | 'usageSource'> {
  const { inputTokens, outputTokens, cachedInputTokens } = tokens
  if (Math.max(inputTokens, outputTokens, cachedInputTokens) <= tokensMax) return { tokens, usageSource }
  return {
    tokens: {
      inputTokens: Math.min(inputTokens, tokensMax),
      outputTokens: Math.min(outputTokens, tokensMax),
      cachedInputTokens: Math.min(cachedInputTokens, tokensMax),
    },
    usageSource: 'estimated',
  }
}
