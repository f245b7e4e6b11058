import { DatabaseSync } from 'node:sqlite'
import { utcDay } from '../clock.ts'
import type { Queries } from '../storage/database.ts'
import type { EventRow, LedgerBeginningRow, LedgerHeadRow, UsageDailyRow } from '../storage/tables.ts'
import { dayTokensMax } from '../token-bounds.ts'
import { beginningOf } from './beginnings.ts'

/** Something that the record says in one place and not in another. */
export interface Disagreement {
  workspaceId: string
  what: string
  expected: string
  found: string
}

const pageRows = 1_000

/**
 * Reads the whole record and compares all that was ever derived from it: positions and sequences without a gap, the
 * heads, the daily usage that day counters start from, and how far each webhook has got. In pages, with sums kept on
 * disk: memory does not grow with the record. Beside a server that writes, `queries` must be of one snapshot.
 *
 * Where retention has removed events, the record begins after them, and the usage of their days stands unchecked.
 */
export async function* verifyLedger(queries: Queries): AsyncGenerator<Disagreement> {
  const heads = await queries.selectFrom('ledger_heads').selectAll().orderBy('workspace_id').execute()
  for (const head of heads) {
    using usage = new RecountedUsage()
    const beginning = await beginningOf(queries, head.workspace_id)
    yield* verifyRecord(queries, { head, beginning, usage })
    yield* verifyUsage(queries, { beginning, usage })
    yield* verifyWebhooks(queries, head)
  }
  yield* eventsWithoutHead(queries)
}

async function* verifyRecord(
  queries: Queries,
  { head, beginning, usage }: { head: LedgerHeadRow; beginning: LedgerBeginningRow; usage: RecountedUsage },
): AsyncGenerator<Disagreement> {
  const workspaceId = head.workspace_id
  let { position, sequence } = beginning
  for await (const rows of eventPages(queries, workspaceId)) {
    for (const row of rows) {
      if (row.position !== position + 1) {
        yield { workspaceId, what: 'position of an event', expected: String(position + 1), found: String(row.position) }
      }
      position = row.position
      const isBillable = row.group_id !== null
      const expected = isBillable ? sequence + 1 : null
      if (row.sequence !== expected) {
        const what = `sequence at position ${row.position}`
        yield { workspaceId, what, expected: String(expected), found: String(row.sequence) }
      }
      if (row.sequence !== null) sequence = row.sequence
    }
    usage.add(rows)
  }
  if (head.position !== position) {
    yield { workspaceId, what: 'head, position', expected: String(position), found: String(head.position) }
  }
  if (head.sequence !== sequence) {
    yield { workspaceId, what: 'head, sequence', expected: String(sequence), found: String(head.sequence) }
  }
}

async function* verifyUsage(
  queries: Queries,
  { beginning, usage }: { beginning: LedgerBeginningRow; usage: RecountedUsage },
): AsyncGenerator<Disagreement> {
  const workspaceId = beginning.workspace_id
  for await (const rows of usagePages(queries, beginning)) {
    for (const row of rows) {
      const recounted = usage.take(row)
      const expected = recounted === null ? 'nothing' : figures(recounted)
      if (figures(row) !== expected) {
        yield {
          workspaceId,
          what: `usage of ${row.group_id} for ${row.slug} on ${row.day}`,
          expected,
          found: figures(row),
        }
      }
    }
  }
  for (const row of usage.rest()) {
    if (row.day <= beginning.day) continue
    const what = `usage of ${row.group_id} for ${row.slug} on ${row.day}`
    yield { workspaceId, what, expected: figures(row), found: 'nothing' }
  }
}

/** A webhook has put every event up to its place into deliveries, without a gap between them. */
async function* verifyWebhooks(queries: Queries, head: LedgerHeadRow): AsyncGenerator<Disagreement> {
  const workspaceId = head.workspace_id
  const webhooks = await queries
    .selectFrom('webhooks')
    .select(['id', 'position', 'sequence'])
    .where('workspace_id', '=', workspaceId)
    .where('deleted_at', 'is', null)
    .execute()
  for (const webhook of webhooks) {
    const what = (detail: string) => `webhook ${webhook.id}, ${detail}`
    if (webhook.position > head.position) {
      yield {
        workspaceId,
        what: what('position'),
        expected: `at most ${head.position}`,
        found: String(webhook.position),
      }
    }
    let last: number | null = null
    for await (const deliveries of deliveryPages(queries, webhook.id)) {
      for (const { first_sequence, last_sequence } of deliveries) {
        if (last !== null && first_sequence !== last + 1) {
          yield {
            workspaceId,
            what: what('start of a delivery'),
            expected: String(last + 1),
            found: String(first_sequence),
          }
        }
        last = last_sequence
      }
    }
    if (last !== null && last !== webhook.sequence) {
      yield { workspaceId, what: what('last sequence'), expected: String(last), found: String(webhook.sequence) }
    }
  }
}

async function* eventsWithoutHead(queries: Queries): AsyncGenerator<Disagreement> {
  const orphans = await queries
    .selectFrom('events')
    .select('workspace_id')
    .distinct()
    .where('workspace_id', 'not in', queries.selectFrom('ledger_heads').select('workspace_id'))
    .execute()
  for (const { workspace_id } of orphans) {
    yield { workspaceId: workspace_id, what: 'head', expected: 'one', found: 'none' }
  }
}

/** The events of a workspace by position, a page at a time. */
export async function* eventPages(queries: Queries, workspaceId: string): AsyncGenerator<EventRow[]> {
  for (let after = 0; ; ) {
    const rows = await queries
      .selectFrom('events')
      .selectAll()
      .where('workspace_id', '=', workspaceId)
      .where('position', '>', after)
      .orderBy('position')
      .limit(pageRows)
      .execute()
    const last = rows.at(-1)
    if (last === undefined) return
    yield rows
    after = last.position
  }
}

/** The roll-up of a workspace, the sums over the processes that counted. */
async function* usagePages(queries: Queries, { workspace_id, day }: LedgerBeginningRow): AsyncGenerator<UsageOfDay[]> {
  let after = { day, group: '\uffff', slug: '' }
  for (;;) {
    const rows = await queries
      .selectFrom('usage_daily')
      .select(['day', 'group_id', 'slug'])
      .select(({ cast, fn }) => [
        cast<number>(fn.sum('requests'), 'bigint').as('requests'),
        cast<number>(fn.sum('input_tokens'), 'bigint').as('input_tokens'),
        cast<number>(fn.sum('output_tokens'), 'bigint').as('output_tokens'),
        cast<number>(fn.sum('cached_input_tokens'), 'bigint').as('cached_input_tokens'),
      ])
      .where('workspace_id', '=', workspace_id)
      .where((eb) => eb(eb.refTuple('day', 'group_id', 'slug'), '>', eb.tuple(after.day, after.group, after.slug)))
      .groupBy(['day', 'group_id', 'slug'])
      .orderBy('day')
      .orderBy('group_id')
      .orderBy('slug')
      .limit(pageRows)
      .execute()
    const last = rows.at(-1)
    if (last === undefined) return
    yield rows
    after = { day: last.day, group: last.group_id, slug: last.slug }
  }
}

async function* deliveryPages(
  queries: Queries,
  webhookId: string,
): AsyncGenerator<{ first_sequence: number; last_sequence: number }[]> {
  for (let after = 0; ; ) {
    const rows = await queries
      .selectFrom('webhook_deliveries')
      .select(['first_sequence', 'last_sequence'])
      .where('webhook_id', '=', webhookId)
      .where('first_sequence', '>', after)
      .orderBy('first_sequence')
      .limit(pageRows)
      .execute()
    const last = rows.at(-1)
    if (last === undefined) return
    yield rows
    after = last.first_sequence
  }
}

type UsageOfDay = Omit<UsageDailyRow, 'workspace_id' | 'node'>
type Figures = Pick<UsageOfDay, 'requests' | 'input_tokens' | 'output_tokens' | 'cached_input_tokens'>

function figures({ requests, input_tokens, output_tokens, cached_input_tokens }: Figures): string {
  const [input, output, cached] = [input_tokens, output_tokens, cached_input_tokens].map(bounded)
  return `${requests} requests, ${input} in, ${output} out, ${cached} cached`
}

/** The roll-up goes no further, for each process that counted; nor does what is compared with it. */
function bounded(tokens: number): number {
  return Math.min(tokens, dayTokensMax)
}

/** The daily usage counted again from the events, in a temporary file that SQLite keeps and removes. */
class RecountedUsage implements Disposable {
  readonly #file = new DatabaseSync('')

  constructor() {
    this.#file.exec(`create table usage (day, group_id, slug, requests, input_tokens, output_tokens, cached_input_tokens,
      primary key (day, group_id, slug)) without rowid`)
  }

  add(rows: readonly EventRow[]): void {
    const add = this.#file.prepare(`insert into usage values (?, ?, ?, 1, ?, ?, ?)
      on conflict do update set requests = requests + 1,
      input_tokens = min(input_tokens + excluded.input_tokens, ${dayTokensMax}),
      output_tokens = min(output_tokens + excluded.output_tokens, ${dayTokensMax}),
      cached_input_tokens = min(cached_input_tokens + excluded.cached_input_tokens, ${dayTokensMax})`)
    this.#file.exec('begin')
    for (const row of rows) {
      for (const groupId of row.counted_groups.split('/')) {
        if (groupId === '') continue
        const key = [utcDay(row.admitted_at), groupId, row.model_slug]
        add.run(...key, ...[row.input_tokens, row.output_tokens, row.cached_input_tokens].map(bounded))
      }
    }
    this.#file.exec('commit')
  }

  /** What was counted for a row of the roll-up, or null; it is then no longer among the rest. */
  take({ day, group_id, slug }: UsageOfDay): Figures | null {
    const taken = this.#file.prepare('delete from usage where day = ? and group_id = ? and slug = ? returning *')
    const [row] = taken.all(day, group_id, slug)
    return row === undefined ? null : (row as unknown as Figures)
  }

  /** What was counted and not taken. */
  rest(): Iterable<UsageOfDay> {
    return this.#file.prepare('select * from usage').iterate() as unknown as Iterable<UsageOfDay>
  }

  [Symbol.dispose](): void {
    this.#file.close()
  }
}
