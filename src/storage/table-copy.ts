import { sql } from 'kysely'
import type { Queries, Transaction } from './database.ts'
import type { Tables } from './tables.ts'

/** What an installation consists of, each table after those that its rows refer to. */
const installationTables = [
  ...['workspaces', 'teams', 'people', 'workspace_keys', 'models', 'secrets', 'endpoints', 'groups', 'federated_keys'],
  ...['domains', 'webhooks', 'webhook_deliveries', 'events', 'usage_daily', 'ledger_heads', 'ledger_beginnings'],
  ...['event_spans', 'audit_logs', 'idempotent_answers', 'master_key_proofs'],
] as const satisfies readonly (keyof Tables)[]
type InstallationTable = (typeof installationTables)[number]

export interface CopiedTable {
  table: InstallationTable
  rows: number
}

/** The tables of an installation that hold something, with how many rows. */
export async function filledTables(queries: Queries): Promise<CopiedTable[]> {
  const counted: CopiedTable[] = []
  for (const table of installationTables) {
    const rows = await countRows(table, queries)
    if (rows > 0) counted.push({ table, rows })
  }
  return counted
}

/**
 * Copies every row of an embedded installation into an empty PostgreSQL of the same form, and counts the rows that are
 * there then. Throws where they are not as many.
 */
export async function copyInstallation(
  from: Queries,
  { queries }: Pick<Transaction, 'queries'>,
): Promise<CopiedTable[]> {
  const copied: CopiedTable[] = []
  for (const table of installationTables) {
    for await (const rows of rowPages(table, from)) {
      await sql`
        insert into ${sql.table(table)}
        select * from json_populate_recordset(null::${sql.table(table)}, ${JSON.stringify(rows, storable)}::json)`.execute(
        queries,
      )
    }
    const [expected, found] = [await countRows(table, from), await countRows(table, queries)]
    if (found !== expected) throw new Error(`Of ${expected} rows of ${table}, ${found} were copied.`)
    copied.push({ table, rows: found })
  }
  return copied
}

/** PostgreSQL takes all characters but one, which no new text may hold either. */
function storable(_column: string, value: unknown): unknown {
  return typeof value === 'string' ? value.replaceAll('\0', '\ufffd') : value
}

const pageRows = 1_000

/** In the order in which the rows were added: a group comes after its parent. */
async function* rowPages(table: InstallationTable, from: Queries): AsyncGenerator<Record<string, unknown>[]> {
  for (let after = 0; ; ) {
    const { rows } = await sql<Record<string, unknown> & { rowid: number }>`
      select rowid, * from ${sql.table(table)} where rowid > ${after} order by rowid limit ${pageRows}`.execute(from)
    const last = rows.at(-1)
    if (last === undefined) return
    yield rows.map(({ rowid: _rowid, ...row }) => row)
    after = last.rowid
  }
}

async function countRows(table: InstallationTable, queries: Queries): Promise<number> {
  const { rows } = await queries
    .selectFrom(table)
    .select((eb) => eb.fn.countAll<number>().as('rows'))
    .executeTakeFirstOrThrow()
  return rows
}
