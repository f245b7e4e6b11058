import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { Database } from '../storage/database.ts'
import { openSqliteFile } from '../storage/sqlite.ts'
import { nodeSqliteDialect } from '../storage/sqlite-dialect.ts'
import type { JournalStretch } from './journal-stretch.ts'
import { openLedger } from './ledger.ts'
import type { LedgerThreadAnswer, LedgerThreadMessage } from './ledger-thread.ts'
import { type LedgerWriter, ledgerWriter } from './ledger-writer.ts'

/** The thread behind `openLedgerThread`: each message says where the events of a write are, one write after the other. */
function serveWrites(port: MessagePort, path: string): void {
  const database = new Database(nodeSqliteDialect(openSqliteFile(path, { synchronous: 'full' })))
  const writer = ledgerWriter(openLedger({ database }))
  let previous: Promise<void> = Promise.resolve()
  port.on('message', (message: LedgerThreadMessage) => {
    previous = previous.then(async () => {
      if (message !== 'close') return port.postMessage(await answer(writer, message))
      await database[Symbol.asyncDispose]()
      port.close()
    })
  })
}

async function answer(writer: LedgerWriter, stretch: JournalStretch): Promise<LedgerThreadAnswer> {
  try {
    return { written: await writer.write(stretch) }
  } catch (error) {
    return { failed: error }
  }
}

if (parentPort !== null) serveWrites(parentPort, workerData)
