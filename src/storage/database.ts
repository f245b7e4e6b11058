import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type Dialect, Kysely, type KyselyPlugin, type Transaction as KyselyTransaction } from 'kysely'
import { Migrator } from 'kysely/migration'
import { StartError } from '../errors.ts'
import { migrations } from './migrations/index.ts'
import { openSqliteFile } from './sqlite.ts'
import { nodeSqliteDialect } from './sqlite-dialect.ts'
import type { Tables } from './tables.ts'

/** What reads need: the database itself, or a transaction under way. */
export type Queries = Kysely<Tables>

/**
 * What writes need. Only `Database.transaction` makes one, so a function that takes a `Transaction` cannot be
 * called outside of it: rows that belong together are written together.
 */
export interface Transaction {
  readonly queries: KyselyTransaction<Tables>
  /** Runs `write` as the transaction's last statements, in the order asked for: what it locks is held for the shortest. */
  beforeCommit(write: () => Promise<void>): void
  /** Runs `effect` after the commit, in the order asked for, and not at all after a rollback. */
  onCommit(effect: CommitEffect): void
}

/** The transaction's caller goes on once it has resolved. */
export type CommitEffect = () => void | Promise<void>

/** The shared state of an installation: one set of typed queries, whichever engine is underneath. */
export class Database implements AsyncDisposable {
  readonly queries: Queries

  constructor(dialect: Dialect, { plugins = [] }: { plugins?: KyselyPlugin[] } = {}) {
    this.queries = new Kysely<Tables>({ dialect, plugins })
  }

  /** Runs `work` anew, a few times, where the engine ends the transaction in favour of others that it waited for. */
  async transaction<Result>(work: (transaction: Transaction) => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const { result, effects } = await this.#commit(work)
        for (const effect of effects) await effect()
        return result
      } catch (error) {
        if (attempt === attemptsMax || !wasGivenUp(error)) throw error
      }
    }
  }

  async #commit<Result>(work: (transaction: Transaction) => Promise<Result>) {
    const lastWrites: (() => Promise<void>)[] = []
    const effects: CommitEffect[] = []
    const result = await this.queries.transaction().execute(async (queries) => {
      const result = await work({
        queries,
        beforeCommit: (write) => lastWrites.push(write),
        onCommit: (effect) => effects.push(effect),
      })
      for (const write of lastWrites) await write()
      return result
    })
    return { result, effects }
  }

  /** Runs `read` on one state of the database: what others write meanwhile, it does not see, nor does it hold them up. */
  async snapshot<Result>(read: (queries: Queries) => Promise<Result>): Promise<Result> {
    return this.queries.transaction().setAccessMode('read only').setIsolationLevel('repeatable read').execute(read)
  }

  /** Brings the tables to the newest form; does nothing where they are. */
  async migrate(): Promise<void> {
    const { error } = await this.#migrator().migrateToLatest()
    if (error !== undefined) throw error
  }

  /** Throws `StartError` where the tables are of another version's form. Changes nothing. */
  async assertNewest(): Promise<void> {
    const known = await this.#migrator().getMigrations()
    if (known.every(({ executedAt }) => executedAt !== undefined)) return
    throw new StartError(
      'The database is of an earlier version of Tollgate. Start the server once: it brings it up to date.',
    )
  }

  #migrator(): Migrator {
    return new Migrator({ db: this.queries, provider: { getMigrations: async () => migrations } })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.queries.destroy()
  }
}

const attemptsMax = 3

/** serialization_failure and deadlock_detected of PostgreSQL's SQLSTATE list. */
function wasGivenUp(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === '40001' || error.code === '40P01')
}

/** Opens (and makes, readable by its owner alone) the embedded database at `path`, in its newest form. */
export async function openEmbeddedDatabase(
  path: string,
  { mustExist = false }: { mustExist?: boolean } = {},
): Promise<Database> {
  if (mustExist) assertExists(path)
  const database = new Database(nodeSqliteDialect(openSqliteFile(path, { synchronous: 'full' })))
  await database.migrate()
  return database
}

/** Opens the embedded database at `path` as it is, to read from it beside a server. Throws `StartError`. */
export async function openEmbeddedRecord(path: string): Promise<Database> {
  assertExists(path)
  await using opened = new AsyncDisposableStack()
  const database = opened.use(openEmbeddedReader(path))
  await database.assertNewest()
  opened.move()
  return database
}

/** Reads the embedded database at `path`, which exists in its newest form, over a connection of its own. */
export function openEmbeddedReader(path: string): Database {
  return new Database(nodeSqliteDialect(new DatabaseSync(path, { readOnly: true })))
}

function assertExists(path: string): void {
  if (!existsSync(path)) throw new StartError(`There is no database at ${path}.`)
}
