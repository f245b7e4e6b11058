import { sql } from 'kysely'
import { type Clock, sleep, type Timer } from '../clock.ts'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import { type RowsStatement, rowsStatement } from '../ledger/rows-statement.ts'
import type { Log } from '../log.ts'
import type { Database, Queries } from '../storage/database.ts'

const tableOf = { federated: 'federated_keys', workspace: 'workspace_keys' } as const
export type KeyKind = keyof typeof tableOf

export interface KeyUseOptions {
  database: Database
  clock: Clock
  log: Log
  /** How long a use may wait for others to be written with it. */
  gatherMs?: number
  /** Keys of one kind in memory at a time. */
  keysMax?: number
  /** How long disposing may take. */
  closeMs?: number
}

/**
 * When each key was last used: noted for every request at no cost, and written to the keys' rows every few seconds,
 * many at a time. What a killed process had not written is lost; disposing writes it.
 *
 * While the database is away, uses wait in memory. Those of keys beyond `keysMax` are then forgotten: such a key
 * shows an older use than its last.
 */
export class KeyUse implements AsyncDisposable {
  readonly #parts: Required<KeyUseOptions>
  readonly #writers: Record<KeyKind, RowsStatement<Use, unknown>>
  readonly #waiting = { federated: new Map<string, number>(), workspace: new Map<string, number>() }
  #timer: Timer | null = null
  #writing: Promise<void> = Promise.resolve()

  constructor({ gatherMs = 2_000, keysMax = 10_000, closeMs = 2_000, ...parts }: KeyUseOptions) {
    this.#parts = { gatherMs, keysMax, closeMs, ...parts }
    const { queries } = parts.database
    this.#writers = { federated: writer(queries, 'federated'), workspace: writer(queries, 'workspace') }
  }

  /** The key with this public prefix was used at `nowMs`, wall clock. */
  noted(kind: KeyKind, prefix: string, nowMs: number): void {
    const { clock, gatherMs, keysMax } = this.#parts
    const uses = this.#waiting[kind]
    if (uses.size >= keysMax && !uses.has(prefix)) return
    uses.set(prefix, nowMs)
    this.#timer ??= clock.after(gatherMs, () => void this.flush())
  }

  /** Resolves once what was noted before the call has been written, or could not be. */
  flush(): Promise<void> {
    this.#timer?.cancel()
    this.#timer = null
    this.#writing = this.#writing.then(async () => {
      await this.#write('federated')
      await this.#write('workspace')
    })
    return this.#writing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { clock, closeMs } = this.#parts
    const deadline = new AbortController()
    await Promise.race([this.flush(), sleep(clock, closeMs, deadline.signal)])
    deadline.abort()
    this.#timer?.cancel()
  }

  async #write(kind: KeyKind): Promise<void> {
    const { database, log } = this.#parts
    const uses = [...this.#waiting[kind]].map(([prefix, used_at]) => ({ prefix, used_at }))
    this.#waiting[kind].clear()
    try {
      for (let start = 0; start < uses.length; start += keysPerWrite) {
        await this.#writers[kind](database.queries, uses.slice(start, start + keysPerWrite))
        await eventLoopTurn()
      }
    } catch (cause) {
      log.warn({ err: cause }, 'when keys were last used could not be written')
      for (const { prefix, used_at } of uses) if (!this.#waiting[kind].has(prefix)) this.noted(kind, prefix, used_at)
    }
  }
}

/** A write of so many keys holds the event loop up for about 5 ms, most of it the disk's. */
const keysPerWrite = 256

interface Use {
  prefix: string
  used_at: number
}

/** Never goes back: another node may have written a later use. */
function writer(queries: Queries, kind: KeyKind): RowsStatement<Use, unknown> {
  return rowsStatement({
    parametersOf: ({ prefix, used_at }: Use) => [prefix, used_at],
    compile: (uses) => {
      const rows = uses.map(({ prefix, used_at }) => sql`(${prefix}, cast(${used_at} as bigint))`)
      // Both engines give the columns of VALUES these names.
      return sql`
        update ${sql.table(tableOf[kind])} set last_used_at = used.column2
        from (values ${sql.join(rows)}) as used
        where prefix = used.column1 and (last_used_at is null or last_used_at < used.column2)`.compile(queries)
    },
  })
}
