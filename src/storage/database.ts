import { existsSync } from 'node:fs'
import { type Dialect, Kysely, type Transaction as KyselyTransaction } from 'kysely'
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
  /** Runs `effect` after the commit, in the order asked for, and not at all after a rollback. */
  onCommit(effect: CommitEffect): void
}

/** The transaction's caller goes on once it has resolved. */
export type CommitEffect = () => void | Promise<void>

/** The shared state of an installation: one set of typed queries, whichever engine is underneath. */
export class Database implements AsyncDisposable {
  readonly queries: Queries

  constructor(dialect: Dialect) {
    this.queries = new Kysely<Tables>({ dialect })
  }

  async transaction<Result>(work: (transaction: Transaction) => Promise<Result>): Promise<Result> {
    const effects: CommitEffect[] = []
    const result = await this.queries
      .transaction()
      .execute((queries) => work({ queries, onCommit: (effect) => effects.push(effect) }))
    for (const effect of effects) await effect()
    return result
  }

  /** Brings the tables to the newest form; does nothing where they are. */
  async migrate(): Promise<void> {
    const migrator = new Migrator({ db: this.queries, provider: { getMigrations: async () => migrations } })
    const { error } = await migrator.migrateToLatest()
    if (error !== undefined) throw error
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.queries.destroy()
  }
}

/** Opens (and makes, readable by its owner alone) the embedded database at `path`, in its newest form. */
export async function openEmbeddedDatabase(
  path: string,
  { mustExist = false }: { mustExist?: boolean } = {},
): Promise<Database> {
  if (mustExist && !existsSync(path)) throw new StartError(`There is no database at ${path}.`)
  const database = new Database(nodeSqliteDialect(openSqliteFile(path, { synchronous: 'full' })))
  await database.migrate()
  return database
}
