import type { Queries } from '../storage/database.ts'
import type { EventRow } from '../storage/tables.ts'
import { eventLoopTurn } from './event-loop-turn.ts'
import { type RecordedEvent, toRecordedEvent } from './event-row.ts'
import { spanStart } from './event-spans.ts'

export interface EventQuery {
  workspaceId: string
  /** The first moment of recording that is wanted. */
  startMs: number
  /** The first one that is not. */
  endMs: number
  /** Where the page before ended (its `nextAfter`); 0 for the first one. */
  afterPosition: number
  /** Only events of these keys; null for all. */
  apiKeyPrefixes: readonly string[] | null
  /** Only events of these customers; null for all. */
  externalEntityIds: readonly string[] | null
  limit: number
}

export interface EventPage {
  events: RecordedEvent[]
  /** The `afterPosition` of the next page; null where the window ends. */
  nextAfter: number | null
}

/** How many positions one query looks through: it holds up the event loop for 2 ms where SQLite has them in memory. */
const positionsPerScan = 10_000
const scansPerPage = 20

/**
 * A page of the record, in the order of positions. However large the record and however rare what is asked for, a
 * page looks through at most 200,000 positions; it may then hold fewer events than `limit`, and go on.
 */
export async function eventPage(queries: Queries, query: EventQuery): Promise<EventPage> {
  const window = await positionsWithin(queries, query)
  if (window === null) return { events: [], nextAfter: null }
  const events: RecordedEvent[] = []
  let after = Math.max(query.afterPosition, window.first - 1)
  for (let scans = 0; scans < scansPerPage && after < window.last; scans += 1) {
    const until = Math.min(window.last, after + positionsPerScan)
    const missing = query.limit - events.length
    const rows = await scan(queries, query, { after, until, limit: missing + 1 })
    for (const row of rows.slice(0, missing)) events.push(toRecordedEvent(row))
    if (rows.length > missing) return { events, nextAfter: events.at(-1)?.position ?? after }
    after = until
    await eventLoopTurn()
  }
  return { events, nextAfter: after < window.last ? after : null }
}

/** The range of positions that holds all events recorded within the window, and few others. */
async function positionsWithin(
  queries: Queries,
  { workspaceId, startMs, endMs }: EventQuery,
): Promise<{ first: number; last: number } | null> {
  const { first, last } = await queries
    .selectFrom('event_spans')
    .select((eb) => [eb.fn.min('first_position').as('first'), eb.fn.max('last_position').as('last')])
    .where('workspace_id', '=', workspaceId)
    .where('started_at', '>=', spanStart(startMs))
    .where('started_at', '<', endMs)
    .executeTakeFirstOrThrow()
  return first === null ? null : { first, last }
}

function scan(
  queries: Queries,
  { workspaceId, startMs, endMs, apiKeyPrefixes, externalEntityIds }: EventQuery,
  { after, until, limit }: { after: number; until: number; limit: number },
): Promise<EventRow[]> {
  return queries
    .selectFrom('events')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('position', '>', after)
    .where('position', '<=', until)
    .where('recorded_at', '>=', startMs)
    .where('recorded_at', '<', endMs)
    .$if(apiKeyPrefixes !== null, (query) => query.where('api_key_prefix', 'in', apiKeyPrefixes ?? []))
    .$if(externalEntityIds !== null, (query) => query.where('external_entity_id', 'in', externalEntityIds ?? []))
    .orderBy('position')
    .limit(limit)
    .execute()
}
