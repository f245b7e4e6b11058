import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type TransactionSettings,
} from 'kysely'
import { LRUCache } from 'lru-cache'
import { type Clock, sleep, systemClock } from '../clock.ts'

/**
 * Kysely over the SQLite that Node brings. Beyond Kysely's own driver: statements are prepared once; a transaction
 * takes the write lock when it begins, so that what it reads first cannot be stale when it writes; and where
 * another process holds the lock, the query waits for up to 5 s without holding up the event loop.
 */
export function nodeSqliteDialect(file: DatabaseSync, { clock = systemClock }: { clock?: Clock } = {}): Dialect {
  return {
    createDriver: () => new NodeSqliteDriver(new NodeSqliteConnection(file, clock)),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createAdapter: () => new SqliteAdapter(),
    createIntrospector: (database) => new SqliteIntrospector(database),
  }
}

/** One connection; Kysely sees to it that one query or transaction uses it at a time. */
class NodeSqliteDriver implements Driver {
  readonly #connection: NodeSqliteConnection

  constructor(connection: NodeSqliteConnection) {
    this.#connection = connection
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection
  }

  async beginTransaction(_connection: DatabaseConnection, { accessMode }: TransactionSettings): Promise<void> {
    await this.#connection.run(accessMode === 'read only' ? 'begin' : 'begin immediate')
  }

  async commitTransaction(): Promise<void> {
    await this.#connection.run('commit')
  }

  async rollbackTransaction(): Promise<void> {
    this.#connection.rollback()
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    this.#connection.close()
  }
}

const lockWaitMs = 5_000
const lockRetryMs = 5

class NodeSqliteConnection implements DatabaseConnection {
  readonly #file: DatabaseSync
  readonly #clock: Clock
  readonly #statements = new LRUCache<string, Prepared>({ max: 500 })

  constructor(file: DatabaseSync, clock: Clock) {
    this.#file = file
    this.#clock = clock
    file.exec('PRAGMA busy_timeout = 0')
  }

  async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    return this.#whenUnlocked(() => {
      const { statement, returnsRows } = this.#prepare(sql)
      if (returnsRows) return { rows: statement.all(...bound(parameters)) as Row[] }
      const { changes, lastInsertRowid } = statement.run(...bound(parameters))
      return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) }
    })
  }

  async *streamQuery<Row>({ sql, parameters }: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    const { statement } = this.#prepare(sql)
    for (const row of statement.iterate(...bound(parameters))) yield { rows: [row as Row] }
  }

  async run(sql: string): Promise<void> {
    await this.#whenUnlocked(() => this.#prepare(sql).statement.run())
  }

  /** SQLite rolls back by itself on some failures, a full disk for one. */
  rollback(): void {
    if (this.#file.isTransaction) this.#prepare('rollback').statement.run()
  }

  close(): void {
    this.#statements.clear()
    this.#file.close()
  }

  #prepare(sql: string): Prepared {
    const cached = this.#statements.get(sql)
    if (cached !== undefined) return cached
    const statement = this.#file.prepare(sql)
    const prepared = { statement, returnsRows: statement.columns().length > 0 }
    this.#statements.set(sql, prepared)
    return prepared
  }

  async #whenUnlocked<Result>(work: () => Result): Promise<Result> {
    const deadlineMs = this.#clock.monotonic() + lockWaitMs
    for (;;) {
      try {
        return work()
      } catch (error) {
        if (!isBusy(error) || this.#file.isTransaction || this.#clock.monotonic() >= deadlineMs) throw error
      }
      await sleep(this.#clock, lockRetryMs)
    }
  }
}

interface Prepared {
  statement: StatementSync
  returnsRows: boolean
}

function bound(parameters: readonly unknown[]): SQLInputValue[] {
  return parameters as SQLInputValue[]
}

/** Whether another process holds a lock: SQLITE_BUSY and what extends it; see sqlite.org/rescode.html. */
export function isBusy(error: unknown): boolean {
  return (
    error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' && (error.errcode & 0xff) === 5
  )
}
