import type { BillingEvent, Outcome, UsageSource } from './billing-event.ts'

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
  if (!isCount(inputTokens) || !isCount(outputTokens) || !isCount(cachedInputTokens)) {
    throw new RangeError(`Token counts must be whole numbers from 0; they are ${JSON.stringify(event.tokens)}.`)
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
    tokens: { inputTokens, outputTokens, cachedInputTokens },
    outcome,
    usageSource,
    node,
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}
