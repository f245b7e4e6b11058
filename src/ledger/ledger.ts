import type { Database } from '../storage/database.ts'
import type { EventRow, LedgerHeadRow } from '../storage/tables.ts'
import type { BillingEvent } from './billing-event.ts'
import { dailyUsage } from './daily-usage.ts'
import { type EventPage, type EventQuery, eventPage } from './event-page.ts'
import { toEventRow } from './event-row.ts'
import { eventSpans } from './event-spans.ts'
import { ledgerStatements } from './ledger-statements.ts'
import { type DayUsage, usageOfDay, usageOfHierarchy } from './usage-of-day.ts'

/**
 * The billing record. Nothing can lose an event of a completed response, and nothing can count one twice
 * (contract §14).
 *
 * An event is born with its idempotency key and goes through three hands. The **journal**, files on the local
 * disk, has it before the response's last byte leaves; all events of one turn of the event loop share a commit. The
 * **shipper** says where in these files events wait, a batch at a time. Who writes to the **ledger**, tables of the
 * shared database, reads them there: a thread of its own where the tables are embedded, so that no request waits for
 * it. One transaction adds a batch's events, their place in each workspace's record and what they add to the daily
 * usage; then the shipper has the journal remove the batch.
 *
 * - Killed before the journal's commit: the response is not complete, and its client has seen no last byte.
 * - Killed after it: the next start ships the event before it takes requests.
 * - Killed within the ledger's transaction: nothing of the batch is there; it is still in the journal.
 * - Killed after it, before the journal removes the batch: it is shipped again. The idempotency key is the primary
 *   key, so the repeat changes neither the events nor the usage nor a place in the record.
 * - The ledger is away: events wait in the journal, on disk, not in memory. Requests go on.
 * - The disk is full: an append rejects with `JournalError`, and the next one tries afresh.
 *
 * Each workspace's record has a head, and a batch first locks the heads of its workspaces. So two nodes that ship for
 * one workspace take turns: a `position` or `sequence`, once visible, has all smaller ones visible too, and a reader
 * that follows them misses nothing. This needs no more than READ COMMITTED of PostgreSQL.
 */
export interface Ledger {
  /**
   * Records what it does not have of `events`, in their order: all of it or, when it rejects, nothing. Returns the
   * ids of the workspaces whose record has grown.
   */
  write(events: readonly BillingEvent[]): Promise<string[]>
  /** What was used on a UTC day, `YYYY-MM-DD`, in pages. */
  usageOfDay(day: string): AsyncIterable<DayUsage[]>
  /** The same for the groups of one tree, named by its root. */
  usageOfHierarchy(query: { day: string; hierarchy: string }): Promise<DayUsage[]>
  /** A page of a workspace's events, in the order of their positions. */
  events(query: EventQuery): Promise<EventPage>
}

export function openLedger({ database }: { database: Pick<Database, 'queries' | 'transaction'> }): Ledger {
  const statements = ledgerStatements(database.queries)
  return {
    write: (events) =>
      database.transaction(async ({ queries }) => {
        const heads = await statements.lockHeads(queries, firstHeads(events))
        const recorded = await statements.findRecorded(queries, events)
        const added = withoutRepeats(events, recorded)
        const rows = placed(added, heads)
        await statements.addEvents(queries, rows)
        await statements.addUsage(queries, dailyUsage(added))
        await statements.extendSpans(queries, eventSpans(rows))
        await statements.moveHeads(queries, heads)
        return workspacesOf(added)
      }),
    usageOfDay: (day) => usageOfDay(database.queries, day),
    usageOfHierarchy: (query) => usageOfHierarchy(database.queries, query),
    events: (query) => eventPage(database.queries, query),
  }
}

/**
 * The heads of the workspaces of `events`, as they are before their first event. In the order of their ids, so that
 * two nodes lock them in the same order and never wait for one another.
 */
function firstHeads(events: readonly BillingEvent[]): LedgerHeadRow[] {
  const workspaceIds = workspacesOf(events).sort()
  return workspaceIds.map((workspaceId) => ({ workspace_id: workspaceId, position: 0, sequence: 0 }))
}

function workspacesOf(events: readonly BillingEvent[]): string[] {
  return [...new Set(events.map(({ workspaceId }) => workspaceId))]
}

function withoutRepeats(
  events: readonly BillingEvent[],
  recorded: readonly { idempotency_key: string }[],
): BillingEvent[] {
  const known = new Set(recorded.map((row) => row.idempotency_key))
  return events.filter(({ idempotencyKey }) => {
    const isNew = !known.has(idempotencyKey)
    known.add(idempotencyKey)
    return isNew
  })
}

/** Gives each event the next place in its workspace's record, and moves `heads` along. */
function placed(events: readonly BillingEvent[], heads: readonly LedgerHeadRow[]): EventRow[] {
  const headOf = new Map(heads.map((head) => [head.workspace_id, head]))
  return events.map((event) => {
    const head = headOf.get(event.workspaceId)
    if (head === undefined) throw new Error(`The head of workspace ${event.workspaceId} is not locked.`)
    head.position += 1
    if (event.groupId === null) return toEventRow(event, { position: head.position, sequence: null })
    head.sequence += 1
    return toEventRow(event, { position: head.position, sequence: head.sequence })
  })
}
