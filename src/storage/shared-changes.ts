import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { sql } from 'kysely'
import { Client } from 'pg'
import { type Clock, sleep, type Timer } from '../clock.ts'
import { StartError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Change, ChangeLog } from './change-log.ts'
import type { Transaction } from './database.ts'
import { servingLock, takeLock } from './locks.ts'

/**
 * How nodes on one PostgreSQL learn of each other's changes, within 1 s (contract §3).
 *
 * A change is a row of `changes`, written in the transaction that makes it. Its id is drawn under a lock that is held
 * until the commit: ids ascend by one in the order of the commits, and whoever sees an id has all smaller ones before
 * him. So a node that remembers the last one it read can miss none, however long transactions last.
 *
 * Every node reads what is new twice a second, over a connection of its own, and at once when it is notified. The
 * notification is a courtesy: one that is lost costs nothing but that half second. The same connection holds the lock by
 * which commands see that a node serves.
 *
 * - The database is away: copies are served as they are, and the first reading that succeeds brings what was missed.
 * - More was missed than is kept, or the database was set back to an earlier state: the row that was read last is gone,
 *   or another has its id. Then all copies are dropped.
 */
export interface ChangeFollower extends AsyncDisposable {
  /** Whether the last reading succeeded: false while the database is away. */
  readonly isCurrent: boolean
  /** Resolves once what was committed before the call holds on this node; rejects where it cannot be read. */
  catchUp(): Promise<void>
}

export interface ChangeFollowerOptions {
  url: string
  changeLog: Pick<ChangeLog, 'tell' | 'hear'>
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'databaseReachable'>
  pollMs?: number
  /** Whether to listen for notifications, too. */
  listens?: boolean
}

const channel = 'tollgate_changes'
const keptMax = 10_000
const rowsPerRead = 1_000
/** A reading that takes longer has failed: the next one comes over a new connection. */
const readMs = 2_000
const farewellMs = 500

/** Writes `change` down for the other nodes, and notifies them when it is committed. Returns its stamp. */
export async function keepChange(change: Change, transaction: Transaction): Promise<string> {
  const { queries } = transaction
  const id = await takeLock('changes', transaction)
  const stamp = randomUUID()
  await queries
    .insertInto('changes')
    .values({ id, stamp, change: JSON.stringify(change) })
    .execute()
  if (id % 100 === 0) {
    await queries
      .deleteFrom('changes')
      .where('id', '<=', id - keptMax)
      .execute()
  }
  await sql`select pg_notify(${channel}, '')`.execute(queries)
  return stamp
}

/** Resolves once it knows where the log ends: what is read from the database from then on is kept up to date. */
export async function followChanges({
  pollMs = 500,
  listens = true,
  ...parts
}: ChangeFollowerOptions): Promise<ChangeFollower> {
  const follower = new PollingFollower({ pollMs, listens, ...parts })
  await follower.start()
  return follower
}

interface ReadChange {
  id: number
  stamp: string
  change: string
}

class PollingFollower implements ChangeFollower {
  readonly #parts: Required<ChangeFollowerOptions>
  #client: Client | null = null
  /** The last change that was read; null where there was none yet. */
  #last: ReadChange | null = null
  #reading: Promise<void> | null = null
  #nextReading: Promise<void> | null = null
  #timer: Timer | null = null
  #socket: Socket | null = null
  #isFailing = false
  #stopped = false

  constructor(parts: Required<ChangeFollowerOptions>) {
    this.#parts = parts
  }

  get isCurrent(): boolean {
    return !this.#isFailing
  }

  async start(): Promise<void> {
    this.#last = await this.#newest(await this.#connected())
    this.#schedule()
  }

  catchUp(): Promise<void> {
    if (this.#reading === null) return this.#read()
    // The reading under way may not have seen it; all who ask meanwhile share the one that follows.
    const next = () => {
      this.#nextReading = null
      return this.catchUp()
    }
    this.#nextReading ??= this.#reading.then(next, next)
    return this.#nextReading
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#reading?.catch(() => {})
    await this.#disconnect()
  }

  #schedule(): void {
    const { clock, pollMs } = this.#parts
    if (this.#stopped) return
    this.#timer = clock.after(pollMs, () => {
      void this.#catchUpInBackground().then(() => this.#schedule())
    })
  }

  async #catchUpInBackground(): Promise<void> {
    // A failure is counted and logged where it happens.
    if (!this.#stopped) await this.catchUp().catch(() => {})
  }

  #read(): Promise<void> {
    this.#reading = this.#readAll()
      .then(
        () => this.#succeeded(),
        (error) => this.#failed(error),
      )
      .finally(() => {
        this.#reading = null
      })
    return this.#reading
  }

  async #readAll(): Promise<void> {
    const client = await this.#connected()
    for (;;) {
      const rows = await this.#rowsFrom(client, this.#last?.id ?? 1)
      const news = newsAfter(this.#last, rows)
      if (news === null) {
        // Where to go on comes first: what is read from here on is newer.
        this.#last = await this.#newest(client)
        await this.#parts.changeLog.tell({ kind: 'everything' })
        return
      }
      for (const row of news) {
        await this.#parts.changeLog.hear(row.stamp, JSON.parse(row.change))
        this.#last = row
      }
      if (rows.length < rowsPerRead) return
    }
  }

  async #rowsFrom(client: Client, id: number): Promise<ReadChange[]> {
    const { rows } = await client.query<ReadChange & { id: string }>(
      'select id, stamp, change from changes where id >= $1 order by id limit $2',
      [id, rowsPerRead],
    )
    return rows.map((row) => ({ ...row, id: Number(row.id) }))
  }

  async #newest(client: Client): Promise<ReadChange | null> {
    const { rows } = await client.query<ReadChange & { id: string }>(
      'select id, stamp, change from changes order by id desc limit 1',
    )
    const [row] = rows
    return row === undefined ? null : { ...row, id: Number(row.id) }
  }

  async #connected(): Promise<Client> {
    if (this.#client !== null) return this.#client
    const socket = new Socket()
    const client = new Client({
      stream: () => socket,
      connectionString: this.#parts.url,
      connectionTimeoutMillis: readMs,
      query_timeout: readMs,
      keepAlive: true,
      application_name: 'tollgate changes',
    })
    client.on('error', () => {
      if (this.#client === client) void this.#disconnect()
    })
    client.on('notification', () => void this.#catchUpInBackground())
    this.#client = client
    this.#socket = socket
    await client.connect()
    await holdServingLock(client)
    if (this.#parts.listens) await client.query(`listen ${channel}`)
    return client
  }

  async #disconnect(): Promise<void> {
    const [client, socket] = [this.#client, this.#socket]
    this.#client = null
    if (client === null) return
    // A server that hangs does not answer a farewell.
    await Promise.race([client.end().catch(() => {}), sleep(this.#parts.clock, farewellMs)])
    socket?.destroy()
  }

  #succeeded(): void {
    const { log, metrics } = this.#parts
    metrics.databaseReachable(true)
    if (this.#isFailing) log.info('changes by other nodes are read again')
    this.#isFailing = false
  }

  #failed(error: unknown): never {
    const { log, metrics } = this.#parts
    metrics.databaseReachable(false)
    if (!this.#isFailing) log.error({ err: error }, 'changes by other nodes cannot be read; trying again')
    this.#isFailing = true
    void this.#disconnect()
    throw error
  }
}

/** Throws where a command that needs all nodes to be stopped is at work. */
async function holdServingLock(client: Client): Promise<void> {
  const { rows } = await client.query('select pg_try_advisory_lock_shared($1) as held', [servingLock])
  if (rows[0]?.held !== true)
    throw new StartError('A command is changing the whole database. Start again when it is done.')
}

/** Those of `rows` that follow `last`; null where it cannot be told. */
function newsAfter(last: ReadChange | null, rows: readonly ReadChange[]): readonly ReadChange[] | null {
  const [first] = rows
  if (last === null) return first === undefined || first.id === 1 ? rows : null
  return first?.id === last.id && first.stamp === last.stamp ? rows.slice(1) : null
}
