import type { FastifyRequest } from 'fastify'
import type { Clock } from '../clock.ts'
import { newId } from '../id.ts'
import type { Transaction } from '../storage/database.ts'
import type { AuditLogRow } from '../storage/tables.ts'
import type { AuditEvent } from './audit-events.ts'
import type { Caller } from './authentication.ts'

/** How a request came: from our own pages or from a program, and which. */
export type AuditClient = Pick<AuditLogRow, 'source' | 'client_name' | 'client_version'>

/** Who did it, as far as the log keeps it. */
type AuditActor = Pick<AuditLogRow, `actor_${string}` & keyof AuditLogRow>

/** Writes what a request did into the audit log, in the transaction of the change itself (contract §15). */
export async function recordAudit(
  transaction: Transaction,
  {
    events,
    caller,
    client,
    clock,
  }: { events: readonly AuditEvent[]; caller: Caller; client: AuditClient; clock: Clock },
): Promise<void> {
  if (events.length === 0) return
  const actor = actorOf(caller)
  const rows = events.map((event) => ({
    id: newId(clock.now()),
    workspace_id: workspaceOf(event, caller),
    created_at: clock.now(),
    event_type: event.event_type,
    event_data: JSON.stringify(event),
    search_text: searchText([...Object.values(event), ...Object.values(actor)]),
    ...actor,
    ...client,
  }))
  await transaction.queries.insertInto('audit_logs').values(rows).execute()
}

/** What the headers of a request say about who made it. Browsers alone send `sec-fetch-site`, and cannot be made to lie. */
export function auditClient(headers: FastifyRequest['headers']): AuditClient {
  const [, name = null, version = null] =
    /^([\w.-]{1,64})(?:\/([\w.+-]{1,64}))?/.exec(headers['user-agent'] ?? '') ?? []
  return {
    source: headers['sec-fetch-site'] === 'same-origin' ? 'UI' : 'API',
    client_name: name,
    client_version: version,
  }
}

function workspaceOf(event: AuditEvent, caller: Caller): string {
  if ('workspace' in caller) return caller.workspace.id
  if ('workspace_id' in event) return event.workspace_id
  throw new Error(`The operator's ${event.event_type} names no workspace.`)
}

function actorOf(caller: Caller): AuditActor {
  if (!('workspace' in caller)) {
    return {
      actor_type: 'BASETEN_USER',
      actor_key_prefix: null,
      actor_key_name: null,
      actor_person_id: null,
      actor_email: null,
    }
  }
  const { prefix, name, person } = caller.actor
  return {
    actor_type: person === null ? 'API_KEY' : 'USER',
    actor_key_prefix: prefix,
    actor_key_name: name,
    actor_person_id: person?.id ?? null,
    actor_email: person?.email ?? null,
  }
}

function searchText(values: readonly unknown[]): string {
  return values
    .flat()
    .filter((value) => typeof value === 'string')
    .join('\n')
    .toLowerCase()
}
