import type { Database } from '../storage/database.ts'
import { type DatabaseSettings, embeddedDatabasePath } from '../storage/open-database.ts'
import { eventOfText } from './event-text.ts'
import { type JournalStretch, readStretch, type StretchReading } from './journal-stretch.ts'
import { type Ledger, openLedger } from './ledger.ts'
import { openLedgerThread } from './ledger-thread.ts'

/** The side of the ledger that the shipper sees: it is told where events are, and reads them itself. */
export interface LedgerWriter {
  /**
   * Reads as many events of `stretch` together as it says, and records what the ledger does not have of them: all of
   * it or, when it rejects, nothing.
   */
  write(stretch: JournalStretch): Promise<WrittenStretch>
}

export interface WrittenStretch {
  /** The ids of the workspaces whose record has grown. */
  workspaceIds: string[]
  reading: StretchReading
}

/** Writes to the installation's ledger: from a thread of its own where the database is embedded. */
export function openLedgerWriter(
  database: Database,
  { databaseUrl, dataDir }: DatabaseSettings,
): LedgerWriter & AsyncDisposable {
  if (databaseUrl === null) return openLedgerThread({ path: embeddedDatabasePath(dataDir) })
  return { ...ledgerWriter(openLedger({ database })), async [Symbol.asyncDispose]() {} }
}

/** Writes from this thread: right where the ledger is a server that does the work. */
export function ledgerWriter(ledger: Pick<Ledger, 'write'>): LedgerWriter {
  return {
    async write(stretch) {
      const { texts, reading } = readStretch(stretch)
      return { workspaceIds: await ledger.write(texts.map(eventOfText)), reading }
    },
  }
}
