import { type Clock, utcDay } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Database, Queries, Transaction } from '../storage/database.ts'
import { startSweeps } from '../sweeps.ts'
import { beginningOf } from './beginnings.ts'
import { eventLoopTurn } from './event-loop-turn.ts'

export interface RetentionOptions {
  database: Database
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'eventsRemoved'>
  /** Events recorded longer ago than this go. */
  retentionDays: number
  batchMax?: number
  everyMs?: number
}

const dayMs = 86_400_000

/**
 * Removes events that are older than `retentionDays`, once an hour and a small batch at a time, the oldest of each
 * workspace first. Never one that a webhook has still to deliver: such an event, and all after it, stay until it is
 * delivered or dead. The daily usage stays for good: it is small, and invoices rest on it.
 */
export function startRetention({ batchMax = 500, everyMs = 3_600_000, ...parts }: RetentionOptions): AsyncDisposable {
  const { clock, log } = parts
  const sweep = (mayGoOn: () => boolean) => removeExpired({ ...parts, batchMax, mayGoOn })
  return startSweeps({ sweep, everyMs, what: 'expired events', clock, log })
}

/** One sweep over all workspaces. */
export async function removeExpired({
  database,
  clock,
  metrics,
  retentionDays,
  batchMax,
  mayGoOn,
}: Omit<Required<RetentionOptions>, 'everyMs' | 'log'> & { mayGoOn: () => boolean }): Promise<void> {
  const beforeMs = clock.now() - retentionDays * dayMs
  const heads = await database.queries.selectFrom('ledger_heads').select('workspace_id').execute()
  for (const { workspace_id } of heads) {
    while (mayGoOn()) {
      const removed = await database.transaction((transaction) =>
        removeBatch(transaction, { workspaceId: workspace_id, beforeMs, batchMax }),
      )
      metrics.eventsRemoved(removed)
      await eventLoopTurn()
      if (removed < batchMax) break
    }
  }
}

async function removeBatch(
  { queries }: Transaction,
  { workspaceId, beforeMs, batchMax }: { workspaceId: string; beforeMs: number; batchMax: number },
): Promise<number> {
  // Other nodes remove, too: one after the other, or the beginning would go back.
  await queries
    .updateTable('ledger_heads')
    .set(({ ref }) => ({ position: ref('position') }))
    .where('workspace_id', '=', workspaceId)
    .execute()
  const beginning = await beginningOf(queries, workspaceId)
  const events = await queries
    .selectFrom('events')
    .select(['position', 'sequence', 'recorded_at', 'admitted_at'])
    .where('workspace_id', '=', workspaceId)
    .where('position', '>', beginning.position)
    .where('position', '<', await firstNeeded(queries, workspaceId))
    .orderBy('position')
    .limit(batchMax)
    .execute()
  const kept = events.findIndex(({ recorded_at }) => recorded_at >= beforeMs)
  const expired = kept === -1 ? events : events.slice(0, kept)
  const last = expired.at(-1)
  if (last === undefined) return 0

  await queries
    .deleteFrom('events')
    .where('workspace_id', '=', workspaceId)
    .where('position', '<=', last.position)
    .execute()
  await queries
    .deleteFrom('event_spans')
    .where('workspace_id', '=', workspaceId)
    .where('last_position', '<=', last.position)
    .execute()
  const days = expired.map(({ admitted_at }) => utcDay(admitted_at))
  const now = {
    workspace_id: workspaceId,
    position: last.position,
    sequence: expired.reduce((latest, { sequence }) => sequence ?? latest, beginning.sequence),
    day: days.reduce((latest, day) => (day > latest ? day : latest), beginning.day),
  }
  await queries
    .insertInto('ledger_beginnings')
    .values(now)
    .onConflict((conflict) => conflict.column('workspace_id').doUpdateSet(now))
    .execute()
  return expired.length
}

/** The first position that a webhook of the workspace has not delivered, or buried, yet. */
async function firstNeeded(queries: Queries, workspaceId: string): Promise<number> {
  const behind = await queries
    .selectFrom('webhooks')
    .select((eb) => eb.fn.min('position').as('position'))
    .where('workspace_id', '=', workspaceId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  const pending = await queries
    .selectFrom('webhook_deliveries')
    .select((eb) => eb.fn.min('first_position').as('position'))
    .where('workspace_id', '=', workspaceId)
    .where('status', '=', 'pending')
    .executeTakeFirst()
  const notPlaced = behind?.position === undefined || behind.position === null ? null : Number(behind.position) + 1
  const notDelivered = pending?.position === undefined || pending.position === null ? null : Number(pending.position)
  return Math.min(notPlaced ?? Number.MAX_SAFE_INTEGER, notDelivered ?? Number.MAX_SAFE_INTEGER)
}
