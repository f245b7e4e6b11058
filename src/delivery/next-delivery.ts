import { randomUUID } from 'node:crypto'
import { type NotNull, sql } from 'kysely'
import { newId } from '../id.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { WebhookDeliveryRow, WebhookRow } from '../storage/tables.ts'
import type { DueDelivery } from './attempt.ts'
import { eventsMax, nextRange, type RangeEvent } from './next-range.ts'

/** How many places of the record one query looks through: calls with a workspace key are no webhook's business. */
const positionsMax = 10_000

/**
 * Puts the next events of the record into a delivery, claimed until `claimedUntilMs`, and moves the webhook behind them.
 * Null where there are none, or where another node is doing the same.
 */
export async function openNextDelivery(
  webhook: WebhookRow,
  { queries }: Transaction,
  { nowMs, claimedUntilMs }: { nowMs: number; claimedUntilMs: number },
): Promise<DueDelivery | null> {
  // A new webhook stands at the end that the record had then. Nothing behind it is passed over for its time: it is the
  // time of the node that recorded it, and not that of the one that made the webhook.
  const end = await recordEnd(webhook.workspace_id, queries)
  for (let from = webhook; from.position < end; ) {
    const until = Math.min(end, from.position + positionsMax)
    const found = await nextEvents(from, until, queries)
    const range = nextRange(found)
    const moved = await moveBehind(from, { range, position: reached(range, found, until) }, queries)
    if (moved === null) return null
    const [first] = range
    if (first !== undefined) {
      const delivery = newDelivery(moved, [first, ...range.slice(1)], { nowMs, claimedUntilMs })
      await queries.insertInto('webhook_deliveries').values(delivery).execute()
      return { delivery, webhook: moved }
    }
    from = moved
  }
  return null
}

async function recordEnd(workspaceId: string, queries: Queries): Promise<number> {
  const head = await queries
    .selectFrom('ledger_heads')
    .select('position')
    .where('workspace_id', '=', workspaceId)
    .executeTakeFirst()
  return head?.position ?? 0
}

function nextEvents({ workspace_id, position }: WebhookRow, until: number, queries: Queries): Promise<RangeEvent[]> {
  return queries
    .selectFrom('events')
    .select(['position', 'sequence', 'recorded_at'])
    .select(sql<number>`coalesce(octet_length(request_metadata), 0)`.as('metadata_bytes'))
    .where('workspace_id', '=', workspace_id)
    .where('position', '>', position)
    .where('position', '<=', until)
    .where('sequence', 'is not', null)
    .$narrowType<{ sequence: NotNull }>()
    .orderBy('position')
    .limit(eventsMax)
    .execute()
}

/** The place in the record behind `range`, and behind what follows it and is no webhook's business, as far as was seen. */
function reached(range: readonly RangeEvent[], found: readonly RangeEvent[], until: number): number {
  const last = range.at(-1) ?? found.at(-1)
  const sawAll = last === found.at(-1) && found.length < eventsMax
  return last === undefined || sawAll ? until : last.position
}

async function moveBehind(
  webhook: WebhookRow,
  { range, position }: { range: readonly RangeEvent[]; position: number },
  queries: Queries,
): Promise<WebhookRow | null> {
  const moved = { ...webhook, position, sequence: range.at(-1)?.sequence ?? webhook.sequence }
  const { numUpdatedRows } = await queries
    .updateTable('webhooks')
    .set({ position: moved.position, sequence: moved.sequence })
    .where('id', '=', webhook.id)
    .where('position', '=', webhook.position)
    .executeTakeFirst()
  return numUpdatedRows === 1n ? moved : null
}

function newDelivery(
  webhook: WebhookRow,
  range: readonly [RangeEvent, ...RangeEvent[]],
  { nowMs, claimedUntilMs }: { nowMs: number; claimedUntilMs: number },
): WebhookDeliveryRow {
  const [first] = range
  const last = range.at(-1) ?? first
  const times = range.map(({ recorded_at }) => recorded_at)
  return {
    id: newId(nowMs),
    webhook_id: webhook.id,
    workspace_id: webhook.workspace_id,
    request_id: randomUUID(),
    status: 'pending',
    first_position: first.position,
    last_position: last.position,
    first_sequence: first.sequence,
    last_sequence: last.sequence,
    first_recorded_at: Math.min(...times),
    last_recorded_at: Math.max(...times),
    attempts: 0,
    first_attempt_at: nowMs,
    last_attempt_at: null,
    next_attempt_at: nowMs,
    claimed_until: claimedUntilMs,
    response_status: null,
    error: null,
    created_at: nowMs,
    finished_at: null,
  }
}
