import { Socket } from 'node:net'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type PrimitiveValueListNode,
  type QueryResult,
  type TransactionSettings,
} from 'kysely'
import { DatabaseError, Pool, type PoolClient, types } from 'pg'
import { sleep, systemClock } from '../clock.ts'
import { UnavailableError } from '../errors.ts'

export interface PostgresOptions {
  /** `postgres://…`, with whatever else libpq's connection strings may say. */
  url: string
  /** Connections at a time. Who comes beyond them waits for one, for as long as for a new connection. */
  connectionsMax?: number
  connectMs?: number
  /** A statement that takes longer is ended by the server, or given up with its connection when that does not answer. */
  statementMs?: number
}

/**
 * Kysely over `pg`. Beyond Kysely's own driver: whatever has become of the server, a query ends, with an
 * `UnavailableError` where that is to blame; and a connection that failed in a way that the server did not report is not
 * used again.
 */
export function postgresDialect({
  url,
  connectionsMax = 8,
  connectMs = 3_000,
  statementMs = 5_000,
}: PostgresOptions): Dialect {
  const sockets = new Set<Socket>()
  const pool = new Pool({
    stream: () => openSocket(sockets),
    connectionString: url,
    max: connectionsMax,
    connectionTimeoutMillis: connectMs,
    statement_timeout: statementMs,
    // A server that still answers ends the statement itself, before we give it up.
    query_timeout: statementMs + 1_000,
    // A node that hangs within a transaction must not hold its locks against the others.
    idle_in_transaction_session_timeout: Math.max(statementMs, 10_000),
    keepAlive: true,
    application_name: 'tollgate',
    types: { getTypeParser },
  })
  // The query under way reports a connection that breaks; an idle one is replaced when it is needed.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return {
    createDriver: () => new PoolDriver(pool, sockets),
    createQueryCompiler: () => new QueryCompiler(),
    createAdapter: () => new PostgresAdapter(),
    createIntrospector: (database) => new PostgresIntrospector(database),
  }
}

const farewellMs = 1_000

function openSocket(sockets: Set<Socket>): Socket {
  const socket = new Socket()
  sockets.add(socket)
  socket.once('close', () => sockets.delete(socket))
  return socket
}

/** Numbers as the rows declare them: all that we store, and their sums, are far below 2^53. */
const numberTypes: readonly number[] = [types.builtins.INT8, types.builtins.NUMERIC]

function getTypeParser(type: number, format?: 'text' | 'binary') {
  return numberTypes.includes(type) ? Number : types.getTypeParser(type, format)
}

/** As SQLite has it, nothing is within an empty list; PostgreSQL does not know such lists. */
class QueryCompiler extends PostgresQueryCompiler {
  protected override visitPrimitiveValueList(node: PrimitiveValueListNode): void {
    if (node.values.length === 0) this.append('(select null where false)')
    else super.visitPrimitiveValueList(node)
  }
}

class PoolDriver implements Driver {
  readonly #pool: Pool
  readonly #sockets: ReadonlySet<Socket>

  constructor(pool: Pool, sockets: ReadonlySet<Socket>) {
    this.#pool = pool
    this.#sockets = sockets
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<PostgresConnection> {
    try {
      return new PostgresConnection(await this.#pool.connect())
    } catch (cause) {
      throw unavailable(cause)
    }
  }

  async beginTransaction(
    connection: PostgresConnection,
    { isolationLevel, accessMode }: TransactionSettings,
  ): Promise<void> {
    const isolation = isolationLevel === undefined ? '' : ` isolation level ${isolationLevel}`
    await connection.run(`begin${isolation}${accessMode === undefined ? '' : ` ${accessMode}`}`)
  }

  async commitTransaction(connection: PostgresConnection): Promise<void> {
    const command = await connection.run('commit')
    // So the server answers where an earlier statement had failed.
    if (command === 'ROLLBACK') throw new Error('The transaction was rolled back.')
  }

  async rollbackTransaction(connection: PostgresConnection): Promise<void> {
    await connection.rollback()
  }

  async releaseConnection(connection: PostgresConnection): Promise<void> {
    connection.release()
  }

  async destroy(): Promise<void> {
    await Promise.race([this.#pool.end(), sleep(systemClock, farewellMs)])
    // A server that hangs does not answer a farewell.
    for (const socket of this.#sockets) socket.destroy()
  }
}

class PostgresConnection implements DatabaseConnection {
  readonly #client: PoolClient
  #isBroken = false

  constructor(client: PoolClient) {
    this.#client = client
  }

  async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    const { command, rowCount, rows } = await this.#query(sql, parameters)
    return changingCommands.includes(command) ? { rows, numAffectedRows: BigInt(rowCount ?? 0) } : { rows }
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query)
  }

  /** Returns what the server says that it did. */
  async run(sql: string): Promise<string> {
    return (await this.#query(sql, [])).command
  }

  /** The server rolls back by itself when a connection ends. */
  async rollback(): Promise<void> {
    if (!this.#isBroken) await this.run('rollback')
  }

  release(): void {
    this.#client.release(this.#isBroken)
  }

  async #query(sql: string, parameters: readonly unknown[]) {
    try {
      return await this.#client.query(sql, [...parameters])
    } catch (error) {
      const isReported = error instanceof DatabaseError
      this.#isBroken ||= !isReported
      throw isReported && !serverTrouble.test(error.code ?? '') ? error : unavailable(error)
    }
  }
}

/**
 * Classes of PostgreSQL's SQLSTATE list: connections (08), a full disk or too many connections (53), statements ended by
 * a time-out or a shutdown (57), the disk (58), and a server that only reads (25006).
 */
const serverTrouble = /^(08|53|57|58|25006)/

function unavailable(cause: unknown): UnavailableError {
  // An attempt at several addresses of one host fails without words of its own.
  const { message = '', code = '' } = cause as { message?: string; code?: string }
  return new UnavailableError(message || code || String(cause), { cause })
}

const changingCommands = ['INSERT', 'UPDATE', 'DELETE', 'MERGE']
