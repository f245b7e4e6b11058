import type { Database } from '../storage/database.ts'
import { type DatabaseSettings, embeddedDatabasePath } from '../storage/open-database.ts'
import { eventOfText } from './event-text.ts'
import { type Ledger, openLedger } from './ledger.ts'
import { openLedgerThread } from './ledger-thread.ts'

/** The side of the ledger that the shipper sees: events come in as the journal holds them. */
export interface LedgerWriter {
  /**
   * Records what the ledger does not have of the events in `texts`: all of it or, when it rejects, nothing. Returns
   * the ids of the workspaces whose record has grown.
   */
  write(texts: readonly string[]): Promise<string[]>
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
  return { write: (texts) => ledger.write(texts.map(eventOfText)) }
}
