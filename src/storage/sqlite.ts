import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type Dialect, SqliteDialect } from 'kysely'

/**
 * Opens an embedded database file: write-ahead log, foreign keys on, and a wait of 5 s where another process
 * holds the lock (a command of the CLI that reads beside a running server).
 */
export function openSqliteFile(path: string, { synchronous }: { synchronous: 'normal' | 'full' }): DatabaseSync {
  const file = new DatabaseSync(path, { timeout: 5_000, enableForeignKeyConstraints: true })
  file.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = 1000`)
  return file
}

/** Kysely's SQLite dialect, written for better-sqlite3, over the SQLite that Node brings. */
export function nodeSqliteDialect(file: DatabaseSync): Dialect {
  return new SqliteDialect({
    database: {
      close: () => file.close(),
      prepare(sql) {
        const statement = file.prepare(sql)
        return {
          reader: statement.columns().length > 0,
          all: (parameters) => statement.all(...bound(parameters)),
          run: (parameters) => statement.run(...bound(parameters)),
          iterate: (parameters) => statement.iterate(...bound(parameters)),
        }
      },
    },
  })
}

function bound(parameters: readonly unknown[]): SQLInputValue[] {
  return parameters as SQLInputValue[]
}
