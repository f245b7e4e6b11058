import assert from 'node:assert/strict'
import { utcDay } from '../../src/clock.ts'
import type { Database } from '../../src/storage/database.ts'
import type { EventRow, UsageDailyRow } from '../../src/storage/tables.ts'

/** Every event that the ledger has, by workspace and position. */
export function recordOf(database: Database): Promise<EventRow[]> {
  return database.queries.selectFrom('events').selectAll().orderBy('workspace_id').orderBy('position').execute()
}

/**
 * What must hold of every record, whatever happened to the processes that wrote it: per workspace, positions are
 * 1..n and the sequences of billable events 1..m, in the same order; and the daily usage is the sum of the events.
 */
export async function assertSoundRecord(database: Database): Promise<void> {
  const rows = await recordOf(database)
  for (const [workspaceId, record] of Map.groupBy(rows, (row) => row.workspace_id)) {
    const billable = record.filter((row) => row.group_id !== null)
    assert.deepEqual(
      record.map((row) => row.position),
      firstNumbers(record.length),
      `positions of ${workspaceId}`,
    )
    assert.deepEqual(
      billable.map((row) => row.sequence),
      firstNumbers(billable.length),
      `sequences of ${workspaceId}`,
    )
    assert.ok(record.every((row) => row.group_id !== null || row.sequence === null))
  }
  assert.deepEqual(await dailyUsageOf(database), sumOf(rows))
}

type UsageOfDay = Omit<UsageDailyRow, 'node'>

function firstNumbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}

/** The roll-up as the ledger holds it, by day, group and slug; of records that one process counted. */
export async function dailyUsageOf(database: Database): Promise<UsageOfDay[]> {
  const rows = await database.queries.selectFrom('usage_daily').selectAll().execute()
  return rows.map(({ node: _node, ...row }) => row).sort(byKey)
}

/** The roll-up as it should be, counted from the events one by one. */
function sumOf(events: readonly EventRow[]): UsageOfDay[] {
  const sums: UsageOfDay[] = []
  for (const event of events) {
    for (const group_id of event.counted_groups.split('/').filter((id) => id !== '')) {
      const key = { workspace_id: event.workspace_id, day: utcDay(event.admitted_at), group_id, slug: event.model_slug }
      let sum = sums.find((row) => usageKey(row) === usageKey(key))
      if (sum === undefined) {
        sum = { ...key, requests: 0, input_tokens: 0, output_tokens: 0, cached_input_tokens: 0 }
        sums.push(sum)
      }
      sum.requests += 1
      sum.input_tokens += event.input_tokens
      sum.output_tokens += event.output_tokens
      sum.cached_input_tokens += event.cached_input_tokens
    }
  }
  return sums.sort(byKey)
}

function usageKey({ day, group_id, slug }: Pick<UsageDailyRow, 'day' | 'group_id' | 'slug'>): string {
  return `${day} ${group_id} ${slug}`
}

function byKey(one: UsageOfDay, other: UsageOfDay): number {
  return usageKey(one) < usageKey(other) ? -1 : 1
}
