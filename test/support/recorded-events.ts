import type { Gateway } from './gateway.ts'

export interface WireEvent {
  idempotencyKey: string
  sequence: number | null
  requestId: string
  requestMetadata: unknown
  modelSlug: string
  externalEntityId: string | null
  apiKeyPrefix: string
  tokens: { inputTokens: number; outputTokens: number; cachedInputTokens: number }
  outcome: string
  usageSource: string
  estimated: boolean
}

/** The whole record of one key, read as a billing engineer reads it: page by page along the cursor. */
export async function recordedEvents(gateway: Gateway, apiKeyPrefix: string): Promise<WireEvent[]> {
  const events: WireEvent[] = []
  let query = `start_time=2020-01-01T00:00:00Z&api_keys=${apiKeyPrefix}`
  for (;;) {
    const page = await gateway.manage<{ items: WireEvent[]; pagination: { cursor: string | null } }>(
      'GET',
      `/v1/gateway/events?${query}`,
    )
    events.push(...page.items)
    if (page.pagination.cursor === null) return events
    query = `cursor=${encodeURIComponent(page.pagination.cursor)}`
  }
}
