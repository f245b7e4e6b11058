import assert from 'node:assert/strict'
import type { MockUpstream } from './mock-upstream.ts'
import { type ServedProcess, workspaceKey } from './served-process.ts'

export const slug = 'acme/model'

interface Usage {
  usage: Record<string, { type: string; current_usage: number; source_group: string }[]>
}

/** A server that can be managed. */
type Managed = Pick<ServedProcess, 'management'>

export interface Recorded {
  requestId: string
  requestMetadata: unknown
  externalEntityId: string
  idempotencyKey: string
  sequence: number
  outcome: string
  usageSource: string
  tokens: { inputTokens: number; outputTokens: number }
}

export async function manage<Body>(server: Managed, method: string, path: string, body?: object): Promise<Body> {
  const response = await fetch(server.management + path, {
    method,
    headers: { authorization: `Api-Key ${workspaceKey}`, 'content-type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
  })
  assert.equal(response.status, 200, `${method} ${path}: ${await response.clone().text()}`)
  return (await response.json()) as Body
}

/** An endpoint, a customer with a key, and a webhook that is patient. */
export async function setUp(
  server: ServedProcess,
  { upstream, webhookUrl }: { upstream: MockUpstream; webhookUrl: string },
): Promise<Customer> {
  const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'model' }
  await manage(server, 'POST', '/v1/gateway/endpoints', { slug, targets: [target] })
  await manage(server, 'POST', '/v1/gateway/webhooks', { url: webhookUrl, retry_window_seconds: 600 })
  return customer(server, { entityId: 'cust_42' })
}

export interface Customer {
  groupId: string
  key: string
  prefix: string
}

/** A group with daily limits that nothing reaches, and a key under it. */
export async function customer(
  server: ServedProcess,
  { entityId, hierarchy = {} }: { entityId: string; hierarchy?: object },
): Promise<Customer> {
  const daily = (type: string) => ({ type, unit: 'DAY', threshold: 1_000_000_000 })
  const { id: groupId } = await manage<{ id: string }>(server, 'POST', '/v1/gateway/groups', {
    metadata: { external_entity_id: entityId },
    models: [{ slug, usage_limits: [daily('REQUEST'), daily('TOKEN')] }],
    hierarchy,
  })
  const path = `/v1/gateway/groups/${groupId}/api_keys`
  const { api_key: key, prefix } = await manage<{ api_key: string; prefix: string }>(server, 'POST', path, {})
  return { groupId, key, prefix }
}

/** One call; resolves with its request id once its response has completed, with null where it did not. */
export async function call(
  { inference }: Pick<ServedProcess, 'inference'>,
  key: string,
  { stream }: { stream: boolean },
): Promise<string | null> {
  try {
    const response = await fetch(`${inference}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: slug, stream, messages: [{ role: 'user', content: 'Hello' }] }),
    })
    const text = await response.text()
    const isComplete = stream ? text.endsWith('data: [DONE]\n\n') : response.status === 200
    return isComplete ? response.headers.get('x-request-id') : null
  } catch {
    return null
  }
}

/** The whole record, oldest first. */
export async function readEvents(server: Managed): Promise<Recorded[]> {
  const events: Recorded[] = []
  let query = 'start_time=2020-01-01T00:00:00Z&limit=1000'
  for (;;) {
    const page = await manage<{ items: Recorded[]; pagination: { cursor: string | null } }>(
      server,
      'GET',
      `/v1/gateway/events?${query}`,
    )
    events.push(...page.items)
    if (page.pagination.cursor === null) return events
    query = `limit=1000&cursor=${encodeURIComponent(page.pagination.cursor)}`
  }
}

/** What the day's counters that belong to the group say. */
export async function usageToday(server: Managed, groupId: string): Promise<Record<string, number>> {
  const { usage } = await manage<Usage>(server, 'GET', `/v1/gateway/groups/${groupId}/usage`)
  const own = usage[slug]?.filter(({ source_group }) => source_group === groupId) ?? []
  return Object.fromEntries(own.map(({ type, current_usage }) => [type, current_usage]))
}

/** What a scrape gets. */
export async function readMetrics({ management }: Managed): Promise<string> {
  const response = await fetch(`${management}/metrics`, { headers: { authorization: `Api-Key ${workspaceKey}` } })
  return response.text()
}

/** What they must say. */
export function sumOf(recorded: readonly Recorded[]): Record<string, number> {
  const tokens = recorded.reduce((sum, event) => sum + event.tokens.inputTokens + event.tokens.outputTokens, 0)
  return { REQUEST: recorded.length, TOKEN: tokens }
}
