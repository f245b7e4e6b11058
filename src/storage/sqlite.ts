import { chmodSync, closeSync, existsSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

export interface SqliteFileOptions {
  /** What a commit survives: normal, a killed process; full, a power cut too. */
  synchronous: 'normal' | 'full'
  /**
   * `shared`: other processes may read and write beside us (a command of the CLI). `exclusive`: the file is this
   * process's alone from its first reading until it is closed.
   */
  locking?: 'shared' | 'exclusive'
}

/**
 * Opens (and makes, readable by its owner alone) a SQLite file: write-ahead log, foreign keys on. Throws when
 * another process holds the file's lock for longer than 2 s.
 */
export function openSqliteFile(path: string, { synchronous, locking = 'shared' }: SqliteFileOptions): DatabaseSync {
  makePrivateFile(path)
  const file = new DatabaseSync(path, { timeout: 2_000, enableForeignKeyConstraints: true })
  try {
    // The locking mode comes first: a log opened in exclusive mode does without shared memory.
    file.exec(
      `PRAGMA locking_mode = ${locking === 'exclusive' ? 'exclusive' : 'normal'}; PRAGMA journal_mode = WAL; ` +
        `PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = 1000`,
    )
  } catch (error) {
    file.close()
    throw error
  }
  return file
}

/** Leaves a file that exists unopened: closing it would drop the locks that this process holds on it elsewhere. */
function makePrivateFile(path: string): void {
  if (!existsSync(path)) closeSync(openSync(path, 'ax', 0o600))
  chmodSync(path, 0o600)
}
