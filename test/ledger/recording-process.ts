import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import type { BillingEvent } from '../../src/ledger/billing-event.ts'
import { openJournal } from '../../src/ledger/journal.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { openLedgerThread } from '../../src/ledger/ledger-thread.ts'
import { type LedgerWriter, ledgerWriter } from '../../src/ledger/ledger-writer.ts'
import { startShipper } from '../../src/ledger/shipper.ts'
import type { Database } from '../../src/storage/database.ts'
import { embeddedDatabasePath } from '../../src/storage/open-database.ts'
import { engine, openTestDatabase } from '../support/database-backends.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvent, workspaceKeyEvent } from './sample-event.ts'

/**
 * A process to be killed. It appends events as fast as it can and ships them, in the folder of its first argument, and
 * prints the idempotency key of each event once its append has resolved. With the second argument
 * `before-ledger-commit` or `before-journal-remove` it kills itself at that point of its first batch.
 */
const [, , folder = '', end = 'whenever'] = process.argv
const database = await openTestDatabase(folder)

const writers: Record<string, () => LedgerWriter> = {
  whenever: () => (engine === 'sqlite' ? openLedgerThread({ path: embeddedDatabasePath(folder) }) : writerTo(database)),
  'before-ledger-commit': () => writerTo(dyingBeforeCommit(database)),
  'before-journal-remove': () => {
    const writer = writerTo(database)
    return { write: (stretch) => writer.write(stretch).then(die) }
  },
}

type WrittenDatabase = Pick<Database, 'queries' | 'transaction'>

function writerTo(database: WrittenDatabase): LedgerWriter {
  return ledgerWriter(openLedger({ database }))
}

/** Dies when all statements of a transaction are through, just before its commit. */
function dyingBeforeCommit(database: Database): WrittenDatabase {
  return {
    queries: database.queries,
    transaction: (work) => database.transaction((transaction) => work(transaction).then(die)),
  }
}

function die(): never {
  process.kill(process.pid, 'SIGKILL')
  throw new Error('SIGKILL is never late')
}

function nextEvent(index: number): BillingEvent {
  const workspaceId = `workspace-${index % 3}`
  return index % 5 === 0 ? workspaceKeyEvent({ workspaceId }) : sampleEvent({ workspaceId })
}

const ledger = writers[end]?.()
if (ledger === undefined) throw new Error(`There is no end named ${end}.`)
const journal = openJournal({ path: join(folder, 'journal.db'), sync: 'normal', ...quiet })
startShipper({ journal, ledger, clock: systemClock, batchMax: 50, gatherMs: 1, ...quiet })

for (let turn = 0; ; turn += 1) {
  const events = Array.from({ length: 1 + (turn % 20) }, (_, index) => nextEvent(turn + index))
  await Promise.all(events.map((event) => journal.append(event)))
  const lines = events.map((event) => `${event.idempotencyKey}\n`).join('')
  await new Promise((resolve) => process.stdout.write(lines, resolve))
}
