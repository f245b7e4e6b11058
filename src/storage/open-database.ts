import { join } from 'node:path'
import { Database, openEmbeddedDatabase, openEmbeddedReader, openEmbeddedRecord } from './database.ts'
import { openPostgresDatabase, openPostgresRecord } from './postgres.ts'
import { postgresDialect } from './postgres-dialect.ts'

export interface DatabaseSettings {
  /** `postgres://…`; null: the embedded database. */
  databaseUrl: string | null
  dataDir: string
}

/** The installation's database, in its newest form: a server's, or the one embedded in the data folder. */
export function openDatabase(
  { databaseUrl, dataDir }: DatabaseSettings,
  { mustExist = false, connectionsMax }: { mustExist?: boolean; connectionsMax?: number } = {},
): Promise<Database> {
  return databaseUrl === null
    ? openEmbeddedDatabase(embeddedDatabasePath(dataDir), { mustExist })
    : openPostgresDatabase({ url: databaseUrl, ...(connectionsMax === undefined ? {} : { connectionsMax }) })
}

/** Enough for a process that serves inference: it asks for what its directory does not hold, and ships. */
export const inferenceConnectionsMax = 4

/**
 * `database` for the inference plane, over connections of its own where it has several: writers of the management plane
 * that wait for one another, and hold all of theirs, then hold up no customer.
 */
export function openForInference(database: Database, { databaseUrl }: DatabaseSettings): Database {
  if (databaseUrl === null) return database
  return new Database(postgresDialect({ url: databaseUrl, connectionsMax: inferenceConnectionsMax }))
}

/**
 * A connection to read the embedded database while a transaction is under way in this process, which holds the only other
 * one. Null for a server's database, to which there are several.
 */
export function openReader({ databaseUrl, dataDir }: DatabaseSettings): Database | null {
  return databaseUrl === null ? openEmbeddedReader(embeddedDatabasePath(dataDir)) : null
}

/**
 * The same as it is, to read from it beside a server, for as long as that takes. Throws `StartError` where its form is
 * another version's.
 */
export function openRecord({ databaseUrl, dataDir }: DatabaseSettings): Promise<Database> {
  return databaseUrl === null
    ? openEmbeddedRecord(embeddedDatabasePath(dataDir))
    : openPostgresRecord({ url: databaseUrl })
}

export function embeddedDatabasePath(dataDir: string): string {
  return join(dataDir, 'tollgate.db')
}
