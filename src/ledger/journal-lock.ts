import type { DatabaseSync } from 'node:sqlite'
import { openSqliteFile } from '../storage/sqlite.ts'

/**
 * A SQLite file that one process at a time can have open: who holds it owns the journal beside it. SQLite gives it up
 * with the process, however that ends. An earlier version kept the events in it.
 */
export interface JournalLock {
  /** The events that an earlier version has left, oldest first, some at a time. */
  leftEvents(): Iterable<string[]>
  /** Removes them. */
  removeLeftEvents(): void
  release(): void
}

/** Throws when another process holds the lock for longer than 2 s. */
export function holdJournalLock(path: string): JournalLock {
  const file = openSqliteFile(path, { synchronous: 'full', locking: 'exclusive' })
  try {
    // SQLite takes the lock when it first reads.
    const hasEvents = file.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'events'").get() !== undefined
    return {
      leftEvents: () => (hasEvents ? eventsIn(file) : []),
      removeLeftEvents() {
        if (hasEvents) file.exec('DROP TABLE events; VACUUM')
      },
      release: () => file.close(),
    }
  } catch (error) {
    file.close()
    throw error
  }
}

const eventsAtATime = 1_000

/** A row held what was committed together, an event on each line. */
function* eventsIn(file: DatabaseSync): Generator<string[]> {
  let texts: string[] = []
  for (const { text } of file.prepare('SELECT text FROM events ORDER BY id').iterate()) {
    texts.push(...String(text).split('\n'))
    if (texts.length < eventsAtATime) continue
    yield texts
    texts = []
  }
  if (texts.length > 0) yield texts
}
