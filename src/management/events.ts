import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import { outcomes, usageSources } from '../ledger/billing-event.ts'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import type { EventQuery } from '../ledger/event-page.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { toWireEvent } from '../ledger/wire-event.ts'
import { Pagination, pageQuery } from '../storage/page.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import { repeatable } from './repeatable.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp } from './timestamp.ts'
import { parseUtcTime } from './utc-time.ts'

const eventsQuery = {
  ...pageQuery,
  start_time: z.string().optional().describe('Inclusive, ISO 8601 UTC. Required without `cursor`.'),
  end_time: z.string().optional().describe('Exclusive, ISO 8601 UTC. Left out: now.'),
  api_keys: repeatable(z.string()).optional().describe('Only events of keys with these prefixes; repeatable.'),
  external_entity_ids: repeatable(z.string()).optional().describe('Only events of these groups; repeatable.'),
  cursor: pageQuery.cursor.describe(
    "The previous page's `pagination.cursor`. It keeps the window and the filters: others are ignored.",
  ),
}
type EventsRequest = z.output<z.ZodObject<typeof eventsQuery>>

const tokenCount = z.int().min(0)

const BillingEvent = z
  .object({
    type: z.literal('API_BILLING_USAGE'),
    idempotencyKey: z.string().describe('A ULID: the same wherever and however often the event shows up.'),
    timestamp: Timestamp,
    requestId: z.string().describe('What the caller was given as `x-request-id`.'),
    requestMetadata: z.unknown().meta({ type: 'object' }).describe("The request's `metadata`."),
    modelSlug: z.string(),
    externalEntityId: z.string().nullable().describe('Null for calls with a workspace key.'),
    externalCustomerId: z.string().nullable().describe('The same, by its older name.'),
    apiKeyPrefix: z.string(),
    tokens: z.object({
      inputTokens: tokenCount.describe('The cached ones included.'),
      outputTokens: tokenCount,
      cachedInputTokens: tokenCount,
    }),
    sequence: z
      .int()
      .nullable()
      .describe('Counts the events that can be billed, without a gap. Null for calls with a workspace key.'),
    outcome: z.enum(outcomes),
    usageSource: z.enum(usageSources),
    estimated: z.boolean(),
  })
  .meta({ id: 'BillingEventV1' })

const Events = z.object({ items: z.array(BillingEvent), pagination: Pagination }).meta({ id: 'EventsResponseV1' })
type Events = z.output<typeof Events>

export interface EventParts {
  ledger: Pick<Ledger, 'events'>
  /** Resolves once the ledger has every event that was committed before the call. */
  flush: () => Promise<void>
  secretBox: SecretBox
  clock: Clock
}

/** The billing record (contract §14). */
export function eventRoutes(parts: EventParts): Route[] {
  return [
    defineRoute({
      method: 'GET',
      path: '/v1/gateway/events',
      permission: 'events:view',
      summary: 'Read billing events, oldest first',
      tag: 'Billing',
      query: eventsQuery,
      response: Events,
      handler: ({ workspace, query }) => listEvents(workspace.id, query, parts),
    }),
  ]
}

async function listEvents(
  workspaceId: string,
  { limit, cursor, ...request }: EventsRequest,
  { ledger, flush, secretBox, clock }: EventParts,
): Promise<Events> {
  const place = cursor === undefined ? firstPlace(request, clock) : openCursor(cursor, { workspaceId, secretBox })
  // What was recorded before `place` was made is committed by the next turn of the event loop.
  await eventLoopTurn()
  await flush()
  const { events, nextAfter } = await ledger.events({ workspaceId, limit, ...place })
  return {
    items: events.map((event) => ({ type: 'API_BILLING_USAGE' as const, ...toWireEvent(event) })),
    pagination: {
      has_more: nextAfter !== null,
      cursor:
        nextAfter === null ? null : sealCursor({ ...place, afterPosition: nextAfter }, { workspaceId, secretBox }),
    },
  }
}

/** The window and the filters that a reader began with, and how far it has come. */
type Place = Omit<EventQuery, 'workspaceId' | 'limit'>

/** A cursor holds the filters, and has to fit into a URL. */
const filterBytesMax = 4_096

function firstPlace(
  { start_time, end_time, api_keys, external_entity_ids }: Omit<EventsRequest, 'limit' | 'cursor'>,
  clock: Clock,
): Place {
  if (start_time === undefined) throw invalid('start_time', 'start_time is required where there is no cursor.')
  const startMs = parseUtcTime('start_time', start_time)
  // What has been recorded in this very millisecond is there to be read.
  const endMs = end_time === undefined ? clock.now() + 1 : parseUtcTime('end_time', end_time)
  if (end_time !== undefined && endMs < startMs) throw invalid('end_time', 'end_time must not be before start_time.')
  const filterBytes = Buffer.byteLength(JSON.stringify([api_keys, external_entity_ids]))
  if (filterBytes > filterBytesMax) throw invalid('api_keys', 'api_keys and external_entity_ids are too many at once.')
  return {
    startMs,
    endMs,
    afterPosition: 0,
    apiKeyPrefixes: api_keys ?? null,
    externalEntityIds: external_entity_ids ?? null,
  }
}

interface CursorParts {
  workspaceId: string
  secretBox: SecretBox
}

/** Sealed: nobody can make one, or use one of another workspace. */
function sealCursor(place: Place, { workspaceId, secretBox }: CursorParts): string {
  return urlSafe(secretBox.seal(JSON.stringify(place), cursorPurpose(workspaceId)))
}

function openCursor(cursor: string, { workspaceId, secretBox }: CursorParts): Place {
  try {
    const sealed = Buffer.from(Buffer.from(cursor, 'base64').toString(), 'base64url').toString('base64')
    if (urlSafe(sealed) !== cursor) throw new Error('The cursor is not as it was made.')
    return JSON.parse(secretBox.open(sealed, cursorPurpose(workspaceId)))
  } catch (cause) {
    const message = "The cursor is not valid; pass the previous response's pagination.cursor as it is."
    throw new ApiError('VALIDATION_ERROR', { message, details: [{ path: 'cursor', message }], cause })
  }
}

/** Base64 as contract §4 wants it, but without the + and / that mean something else in a URL: of letters, digits, _ and -. */
function urlSafe(base64: string): string {
  return Buffer.from(Buffer.from(base64, 'base64').toString('base64url')).toString('base64')
}

function cursorPurpose(workspaceId: string): string {
  return `events cursor ${workspaceId}`
}
