import { hash } from 'node:crypto'
import { DatabaseError } from 'pg'
import type { Database } from '../../src/storage/database.ts'
import { openDatabase } from '../../src/storage/open-database.ts'
import { createDatabase } from './postgres.ts'

/** Set by `run-on-postgres.ts` for a run in which every test's database is one of this server's. */
export const serverVariable = 'TEST_POSTGRES_URL'
export const templateDatabase = 'tollgate_template'

/** The engine of this run: what a test that is about one of them alone asks. */
export const engine = process.env[serverVariable] === undefined ? 'sqlite' : 'postgres'

/** The database of an installation whose data folder is `dataDir`: opened again, it is the same one. */
export async function openTestDatabase(dataDir: string): Promise<Database> {
  return openDatabase({ databaseUrl: await testDatabaseUrl(dataDir), dataDir })
}

/** What the settings of an installation in `dataDir` must say beyond the folder itself. */
export async function databaseSettings(dataDir: string): Promise<Record<string, string>> {
  const url = await testDatabaseUrl(dataDir)
  return url === null ? {} : { TOLLGATE_DATABASE_URL: url }
}

async function testDatabaseUrl(dataDir: string): Promise<string | null> {
  const serverUrl = process.env[serverVariable]
  if (serverUrl === undefined) return null
  const database = `test_${hash('sha256', dataDir).slice(0, 32)}`
  try {
    await createDatabase(serverUrl, database, templateDatabase)
  } catch (error) {
    if (!(error instanceof DatabaseError && error.code === duplicateDatabase)) throw error
  }
  return Object.assign(new URL(serverUrl), { pathname: database }).href
}

/** duplicate_database of PostgreSQL's SQLSTATE list. */
const duplicateDatabase = '42P04'
