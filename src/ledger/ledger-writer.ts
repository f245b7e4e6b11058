import { eventOfText } from './event-text.ts'
import type { Ledger } from './ledger.ts'

/** The side of the ledger that the shipper sees: events come in as the journal holds them. */
export interface LedgerWriter {
  /**
   * Records what the ledger does not have of the events in `texts`: all of it or, when it rejects, nothing. Returns
   * the ids of the workspaces whose record has grown.
   */
  write(texts: readonly string[]): Promise<string[]>
}

/** Writes from this thread: right where the ledger is a server that does the work. */
export function ledgerWriter(ledger: Pick<Ledger, 'write'>): LedgerWriter {
  return { write: (texts) => ledger.write(texts.map(eventOfText)) }
}
