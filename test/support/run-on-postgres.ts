import { openPostgresDatabase } from '../../src/storage/postgres.ts'
import { serverVariable, templateDatabase } from './database-backends.ts'
import { type PostgresServer, startPostgres } from './postgres.ts'

/**
 * `node --test --test-global-setup=test/support/run-on-postgres.ts …`: one server for all test files of the run, and a
 * database on it, in its newest form, that each test's own is a copy of.
 */
let server: PostgresServer | null = null

export async function globalSetup(): Promise<void> {
  server = await startPostgres()
  await server.create(templateDatabase)
  await using _migrated = await openPostgresDatabase({ url: server.url(templateDatabase) })
  process.env[serverVariable] = server.url('postgres')
}

export async function globalTeardown(): Promise<void> {
  await server?.[Symbol.asyncDispose]()
}
