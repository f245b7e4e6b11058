import { join } from 'node:path'
import { type Database, openEmbeddedDatabase, openEmbeddedRecord } from './database.ts'
import { openPostgresDatabase, openPostgresRecord } from './postgres.ts'

export interface DatabaseSettings {
  /** `postgres://…`; null: the embedded database. */
  databaseUrl: string | null
  dataDir: string
}

/** The installation's database, in its newest form: a server's, or the one embedded in the data folder. */
export function openDatabase(
  { databaseUrl, dataDir }: DatabaseSettings,
  options: { mustExist?: boolean } = {},
): Promise<Database> {
  return databaseUrl === null
    ? openEmbeddedDatabase(embeddedDatabasePath(dataDir), options)
    : openPostgresDatabase({ url: databaseUrl })
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
