import { sql } from 'kysely'
import { z } from 'zod'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import type { Queries } from '../storage/database.ts'
import { encodeCursor, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { AuditLogRow } from '../storage/tables.ts'
import { type AuditEvent, AuditEventData, auditEventGroups, auditEventTypes, typesOfGroups } from './audit-events.ts'
import { repeatable } from './repeatable.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

/** Events that clients of this API know of, and that nothing here gives rise to. */
const otherEventTypes = [
  'MODEL_DEPLOYED',
  'MODEL_DEPLOYMENT_ACTIVATED',
  'MODEL_DEPLOYMENT_DEACTIVATED',
  'MODEL_DEPLOYMENT_RETRIED',
  'MODEL_DEPLOYMENT_PROMOTED',
  'MODEL_DEPLOYMENT_AUTOSCALING_SETTINGS_CHANGED',
  'MODEL_DEPLOYMENT_REQUEST_BACKPRESSURE_SETTINGS_CHANGED',
  'MODEL_DEPLOYMENT_INSTANCE_TYPE_CHANGED',
  'MODEL_DEPLOYMENT_DELETED',
  'CHAIN_DEPLOYED',
  'CHAIN_DEPLOYMENT_ACTIVATED',
  'CHAIN_DEPLOYMENT_DEACTIVATED',
  'CHAIN_DEPLOYMENT_PROMOTED',
  'CHAINLET_AUTOSCALING_SETTINGS_CHANGED',
  'CHAINLET_INSTANCE_TYPE_CHANGED',
  'CHAIN_DEPLOYMENT_DELETED',
  'CHAIN_DELETED',
  'CHAIN_ENVIRONMENT_CREATED',
  'CHAIN_ENVIRONMENT_UPDATED',
  'DIRECTORY_GROUP_ROLE_UPDATED',
  'REQUIRE_GROUP_BASED_ADMINS_ENABLED',
  'ENVIRONMENT_CREATED',
  'ENVIRONMENT_UPDATED',
  'ENVIRONMENT_DELETED',
  'REPLICA_TERMINATED',
  'MODEL_PROMOTION_CONTROL_ACTION',
  'SSH_CERTIFICATE_SIGNED',
] as const

const Source = z.enum(['UI', 'API', 'MCP', 'SYSTEM', 'OTHER']).meta({ id: 'AuditLogSourceV1' })
const EventGroup = z.enum(auditEventGroups).meta({ id: 'AuditLogEventTypeGroupV1' })
const Direction = z.enum(['DESC', 'ASC']).meta({ id: 'AuditLogSortDirectionV1' })
const epochMillis = z.coerce.number().int().min(0).max(8.64e15)

const auditQuery = {
  limit: z.coerce.number().int().min(1).max(200).default(20).describe('Page size, 1 to 200.'),
  cursor: pageQuery.cursor,
  direction: Direction.default('DESC').describe('DESC: newest first.'),
  search: z.string().max(255).optional().describe('Only entries with this in a name, an id, the type or the actor.'),
  event_type_groups: repeatable(EventGroup).optional(),
  user_ids: repeatable(z.string()).optional().describe('Only what these people did with their personal keys.'),
  deployment_ids: repeatable(z.string()).optional().describe('Only what was done to these models.'),
  chain_deployment_ids: repeatable(z.string()).optional().describe('There are no chains here: no entry fits.'),
  environment_names: repeatable(z.string()).optional().describe('Only what was done to models with such environments.'),
  sources: repeatable(Source).optional(),
  start_epoch_millis: epochMillis.optional().describe('Inclusive.'),
  end_epoch_millis: epochMillis.optional().describe('Exclusive.'),
}
type AuditQuery = z.output<z.ZodObject<typeof auditQuery>>

const Actor = z
  .object({
    type: z
      .enum(['USER', 'API_KEY', 'BASETEN_USER', 'BASETEN_SYSTEM', 'TOMBSTONE_USER'])
      .meta({ id: 'AuditLogActorTypeV1' })
      .describe('USER: a person, with a personal key. BASETEN_USER: the operator of the installation.'),
    api_key_prefix: z.string().nullable(),
    api_key_name: z.string().nullable(),
    email: z.string().nullable().describe("The person's."),
  })
  .meta({ id: 'AuditLogActorV1' })

const Entry = z
  .object({
    id: z.string(),
    created: Timestamp,
    event_type: z.enum([...auditEventTypes, ...otherEventTypes]).meta({ id: 'AuditLogEventTypeV1' }),
    event_data: AuditEventData,
    actor: Actor,
    source: Source.nullable().describe('UI: one of our own pages, as browsers tell.'),
    client_name: z.string().nullable().describe('As the client calls itself.'),
    client_version: z.string().nullable(),
    client_session_id: z.string().nullable(),
  })
  .meta({ id: 'AuditLogEntryV1' })
type Entry = z.output<typeof Entry>

const AuditLogs = z.object({ items: z.array(Entry), pagination: Pagination }).meta({ id: 'ListAuditLogsResponseV1' })
type AuditLogs = z.output<typeof AuditLogs>

/** Who changed what (contract §15). */
export function auditLogRoutes(): Route[] {
  return [
    defineRoute({
      method: 'GET',
      path: '/v1/audit_logs',
      permission: 'audit:view',
      summary: 'List what was changed, when and by whom',
      tag: 'Audit',
      query: auditQuery,
      response: AuditLogs,
      handler: ({ workspace, query, queries }) => listAuditLogs(workspace.id, query, queries),
    }),
  ]
}

/** How many entries one query looks through: about 3 ms of SQLite's time. */
const entriesPerScan = 2_000
const scansPerPage = 50

/**
 * However large the log and however rare what is asked for, a page looks through at most 100,000 entries, and lets
 * others go first in between. It may then hold fewer entries than `limit`, and go on.
 */
async function listAuditLogs(workspaceId: string, request: AuditQuery, queries: Queries): Promise<AuditLogs> {
  const found: AuditLogRow[] = []
  let start: string | undefined = pageStart(request)
  for (let scans = 0; scans < scansPerPage; scans += 1) {
    const stretch = entriesAfter(workspaceId, { start, direction: request.direction }, queries)
    const missing = request.limit + 1 - found.length
    found.push(...(await matching(stretch, request, queries).limit(missing).execute()))
    if (found.length > request.limit) return page(found, request, toEntry)
    start = (
      await stretch
        .clearSelect()
        .select('id')
        .offset(entriesPerScan - 1)
        .executeTakeFirst()
    )?.id
    if (start === undefined) return page(found, request, toEntry)
    await eventLoopTurn()
  }
  return { items: found.map(toEntry), pagination: { has_more: true, cursor: encodeCursor(start) } }
}

/** As many entries after `start` as one scan looks through. */
function entriesAfter(
  workspaceId: string,
  { start, direction }: { start: string; direction: AuditQuery['direction'] },
  queries: Queries,
) {
  const isNewestFirst = direction === 'DESC'
  return queries
    .selectFrom('audit_logs')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .$if(start !== '', (query) => query.where('id', isNewestFirst ? '<' : '>', start))
    .orderBy('id', isNewestFirst ? 'desc' : 'asc')
    .limit(entriesPerScan)
}

/** Those of `stretch` that fit every filter that is given; within a list, one is enough. */
function matching(stretch: ReturnType<typeof entriesAfter>, request: AuditQuery, queries: Queries) {
  const { search, event_type_groups, user_ids, deployment_ids, chain_deployment_ids, environment_names } = request
  const { sources, start_epoch_millis, end_epoch_millis } = request
  let entries = queries
    .selectFrom(stretch.as('stretch'))
    .selectAll()
    .orderBy('id', request.direction === 'DESC' ? 'desc' : 'asc')
  if (start_epoch_millis !== undefined) entries = entries.where('created_at', '>=', start_epoch_millis)
  if (end_epoch_millis !== undefined) entries = entries.where('created_at', '<', end_epoch_millis)
  if (sources !== undefined) entries = entries.where('source', 'in', sources)
  if (user_ids !== undefined) entries = entries.where('actor_person_id', 'in', user_ids)
  if (search !== undefined) entries = entries.where(like('search_text', `%${literally(search.toLowerCase())}%`))
  if (event_type_groups !== undefined) {
    const types = typesOfGroups(event_type_groups)
    entries = entries.where(({ eb, lit }) => (types.length === 0 ? lit(false) : eb('event_type', 'in', types)))
  }
  if (deployment_ids !== undefined) {
    const patterns = deployment_ids.map((id) => `%"model_id":${literally(JSON.stringify(id))}%`)
    entries = entries.where(({ or }) => or(patterns.map((pattern) => like('event_data', pattern))))
  }
  if (environment_names !== undefined) {
    // The names stand last, and a quotation mark within a string is written \", so neither can be mistaken for another.
    const patterns = environment_names.map((name) => `%"environment_names":[%${literally(JSON.stringify(name))}%`)
    entries = entries.where(({ or }) => or(patterns.map((pattern) => like('event_data', pattern))))
  }
  if (chain_deployment_ids !== undefined) entries = entries.where(({ lit }) => lit(false))
  return entries
}

function literally(text: string): string {
  return text.replaceAll(/[\\%_]/g, '\\$&')
}

function like(column: 'search_text' | 'event_data', pattern: string) {
  return sql<boolean>`${sql.ref(column)} like ${pattern} escape '\\'`
}

function toEntry(row: AuditLogRow): Entry {
  const event: AuditEvent = JSON.parse(row.event_data)
  return {
    id: row.id,
    created: timestamp(row.created_at),
    event_type: event.event_type,
    event_data: event,
    actor: {
      type: row.actor_type,
      api_key_prefix: row.actor_key_prefix,
      api_key_name: row.actor_key_name,
      email: row.actor_email,
    },
    source: row.source,
    client_name: row.client_name,
    client_version: row.client_version,
    client_session_id: null,
  }
}
