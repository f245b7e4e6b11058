import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import type { BillingEvent } from '../../src/ledger/billing-event.ts'
import { eventLoopTurn } from '../../src/ledger/event-loop-turn.ts'
import { type Journal, openJournal } from '../../src/ledger/journal.ts'
import { type Ledger, openLedger } from '../../src/ledger/ledger.ts'
import { type LedgerWriter, ledgerWriter } from '../../src/ledger/ledger-writer.ts'
import { type Shipper, type ShipperOptions, startShipper } from '../../src/ledger/shipper.ts'
import { openLog } from '../../src/log.ts'
import { Database, openEmbeddedDatabase } from '../../src/storage/database.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { nodeSqliteDialect } from '../../src/storage/sqlite-dialect.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { quiet } from './quiet-parts.ts'
import { assertSoundRecord, recordOf } from './record-of.ts'
import { sampleEvent, sampleEvents } from './sample-event.ts'

type WrittenLedger = Pick<Ledger, 'write'>

/** A ledger that can be taken away, and that tells how it is used. */
class SwitchableLedger implements WrittenLedger {
  isAway = false
  readonly batchSizes: number[] = []
  readonly #ledger: WrittenLedger

  constructor(ledger: WrittenLedger) {
    this.#ledger = ledger
  }

  async write(events: readonly BillingEvent[]): Promise<string[]> {
    this.batchSizes.push(events.length)
    if (this.isAway) throw new Error('the ledger is away')
    return this.#ledger.write(events)
  }
}

interface Line {
  clock: ManualClock
  journal: Journal
  database: Database
  ledger: SwitchableLedger
  shipper: Shipper
  logged: { level: string; msg: string }[]
  failures(): number
}

/** A journal, a ledger and a shipper between them, on a clock that stands still. */
async function openLine(context: TestContext, options: Partial<ShipperOptions> = {}): Promise<Line> {
  const opened = new AsyncDisposableStack()
  context.after(() => opened.disposeAsync())
  const folder = opened.use(temporaryFolder())
  const clock = new ManualClock()
  const logged: Line['logged'] = []
  const log = openLog({ level: 'info' }, { write: (line) => logged.push(JSON.parse(line)) })
  let failures = 0
  const database = opened.use(await openEmbeddedDatabase(join(folder.path, 'tollgate.db')))
  const journal = opened.use(openJournal({ path: join(folder.path, 'journal.db'), sync: 'normal', ...quiet }))
  const ledger = new SwitchableLedger(openLedger({ database }))
  const metrics = {
    shippingFailed: () => {
      failures += 1
    },
  }
  const shipper = opened.use(startShipper({ journal, ledger: ledgerWriter(ledger), clock, log, metrics, ...options }))
  return { clock, journal, database, ledger, shipper, logged, failures: () => failures }
}

async function appendAll({ journal }: Line, count: number): Promise<void> {
  await Promise.all(sampleEvents(count).map((event) => journal.append(event)))
}

async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns += 1) {
    assert.ok(turns < 10_000, 'the condition never came true')
    await eventLoopTurn()
  }
}

test('events go to the ledger together, once they have been gathered for a while', async (context) => {
  const line = await openLine(context, { gatherMs: 100 })
  await appendAll(line, 3)
  line.clock.advance(99)
  await appendAll(line, 2)
  assert.deepEqual(line.ledger.batchSizes, [])
  line.clock.advance(1)
  await until(() => line.journal.depth() === 0)
  assert.deepEqual(line.ledger.batchSizes, [5])
  assert.equal((await recordOf(line.database)).length, 5)
})

test('a full batch goes to the ledger at once', async (context) => {
  const line = await openLine(context, { batchMax: 10 })
  await appendAll(line, 10)
  await until(() => line.journal.depth() === 0)
  assert.deepEqual(line.ledger.batchSizes, [10])
  assert.equal(line.clock.nextTimerMs(), null)
})

test('a shipper that starts over a journal with events ships them', async (context) => {
  const { journal, database, clock, ledger, shipper } = await openLine(context)
  await shipper[Symbol.asyncDispose]()
  for (const event of sampleEvents(3)) await journal.append(event)
  await using _next = startShipper({ journal, ledger: ledgerWriter(ledger), clock, ...quiet })
  clock.advance(250)
  await until(() => journal.depth() === 0)
  assert.equal((await recordOf(database)).length, 3)
})

test('a flush ships all that was appended before it, in batches, without a wait', async (context) => {
  const line = await openLine(context, { batchMax: 10 })
  for (let turn = 0; turn < 3; turn++) await appendAll(line, 3)
  const flushes = [line.shipper.flush(), line.shipper.flush()]
  for (let turn = 0; turn < 5; turn++) await appendAll(line, 3)
  await line.shipper.flush()
  assert.equal((await recordOf(line.database)).length, 24)
  assert.ok(line.ledger.batchSizes.every((size) => size <= 10))
  await Promise.all(flushes)
})

test('a flush ends although events keep coming faster than they are shipped', async (context) => {
  const line = await openLine(context, { batchMax: 5 })
  await appendAll(line, 20)
  let isOver = false
  const stream = (async () => {
    while (!isOver) await appendAll(line, 10)
  })()
  await line.shipper.flush()
  await line.shipper.flush()
  isOver = true
  await stream
  await line.shipper.flush()
  assert.equal(line.journal.depth(), 0)
  await assertSoundRecord(line.database)
})

test('while the ledger is away events wait in the journal, and drain once it is back', async (context) => {
  const line = await openLine(context, { batchMax: 50 })
  line.ledger.isAway = true
  await appendAll(line, 500)
  await until(() => line.failures() === 1)
  assert.equal(line.journal.depth(), 500)
  await appendAll(line, 500)
  line.ledger.isAway = false
  line.clock.advance(100)
  await until(() => line.journal.depth() === 0)
  assert.equal((await recordOf(line.database)).length, 1_000)
  await assertSoundRecord(line.database)
})

test('an outage is tried less and less often, counted each time and logged once', async (context) => {
  const line = await openLine(context)
  line.ledger.isAway = true
  await appendAll(line, 1)
  const waits: (number | null)[] = []
  for (let attempt = 1; attempt <= 9; attempt += 1) {
    const waitMs = line.clock.nextTimerMs()
    waits.push(waitMs)
    line.clock.advance(waitMs ?? 0)
    await until(() => line.failures() === attempt && line.clock.nextTimerMs() !== null)
    await appendAll(line, 1)
  }
  assert.deepEqual(waits, [250, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000])
  line.ledger.isAway = false
  line.clock.advance(10_000)
  await until(() => line.journal.depth() === 0)
  assert.deepEqual(
    line.logged.map(({ level, msg }) => [level, msg]),
    [
      ['error', 'events cannot be shipped; they wait in the journal'],
      ['info', 'events are shipped again'],
    ],
  )
})

test('however large the backlog, no more than one batch of it is in memory', async (context) => {
  const line = await openLine(context, { batchMax: 40 })
  line.ledger.isAway = true
  for (let turn = 0; turn < 100; turn++) await appendAll(line, 20)
  await assert.rejects(line.shipper.flush(), /away/)
  line.ledger.isAway = false
  await line.shipper.flush()
  assert.equal(line.journal.depth(), 0)
  assert.equal(Math.max(...line.ledger.batchSizes), 40)
})

test('a flush rejects with the cause when the ledger is away, and the shipper goes on by itself', async (context) => {
  const line = await openLine(context)
  line.ledger.isAway = true
  await appendAll(line, 4)
  await assert.rejects(line.shipper.flush(), /the ledger is away/)
  line.ledger.isAway = false
  line.clock.advance(100)
  await until(() => line.journal.depth() === 0)
  assert.equal((await recordOf(line.database)).length, 4)
})

test('a batch that was written but not removed is shipped again and changes nothing', async (context) => {
  const line = await openLine(context)
  const { remove } = line.journal
  line.journal.remove = () => {
    throw new Error('killed here')
  }
  await appendAll(line, 6)
  await assert.rejects(line.shipper.flush(), /killed here/)
  const record = await recordOf(line.database)
  assert.equal(record.length, 6)
  line.journal.remove = (stretch, reading) => remove.call(line.journal, stretch, reading)
  await line.shipper.flush()
  assert.deepEqual(await recordOf(line.database), record)
  assert.equal(line.journal.depth(), 0)
  await assertSoundRecord(line.database)
})

test('listeners hear which workspaces have grown, and nothing of a repeat', async (context) => {
  const line = await openLine(context)
  const heard: (readonly string[])[] = []
  line.shipper.onShipped((workspaceIds) => heard.push(workspaceIds))
  const event = sampleEvent({ workspaceId: 'workspace-b' })
  await line.journal.append(event)
  await line.shipper.flush()
  await line.journal.append(event)
  await line.shipper.flush()
  assert.deepEqual(heard, [['workspace-b']])
})

test('disposing of the shipper ships what is left', async (context) => {
  const line = await openLine(context)
  await appendAll(line, 7)
  await line.shipper[Symbol.asyncDispose]()
  assert.equal((await recordOf(line.database)).length, 7)
  assert.equal(line.clock.nextTimerMs(), null)
})

test('disposing of the shipper ends at its deadline when the ledger does not answer', async (context) => {
  const silent: LedgerWriter = { write: () => new Promise(() => {}) }
  const line = await openLine(context, { ledger: silent, closeMs: 5_000 })
  await appendAll(line, 2)
  const disposed = line.shipper[Symbol.asyncDispose]()
  line.clock.advance(5_000)
  await disposed
  assert.equal(line.journal.depth(), 2)
  assert.deepEqual(
    line.logged.map(({ level }) => level),
    ['warn'],
  )
})

test('another process that holds the lock delays shipping, and loses nothing', async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'tollgate.db')
  const clock = new ManualClock()
  await using database = new Database(nodeSqliteDialect(openSqliteFile(path, { synchronous: 'full' }), { clock }))
  await database.migrate()
  await using journal = openJournal({ path: join(folder.path, 'journal.db'), sync: 'normal', ...quiet })
  await using shipper = startShipper({ journal, ledger: ledgerWriter(openLedger({ database })), clock, ...quiet })
  const holder = new DatabaseSync(path)
  holder.exec('BEGIN IMMEDIATE')
  for (const event of sampleEvents(5)) await journal.append(event)
  const flush = shipper.flush()
  flush.catch(() => {})
  await until(() => clock.nextTimerMs() === 5)
  while (clock.nextTimerMs() === 5) {
    clock.advance(5)
    for (let turns = 0; turns < 3; turns += 1) await eventLoopTurn()
  }
  await assert.rejects(flush, /locked/)
  assert.equal(journal.depth(), 5)
  holder.exec('COMMIT')
  holder.close()
  await shipper.flush()
  await assertSoundRecord(database)
  assert.equal((await recordOf(database)).length, 5)
})
