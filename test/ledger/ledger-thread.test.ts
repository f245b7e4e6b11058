import assert from 'node:assert/strict'
import fs, { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { eventText } from '../../src/ledger/event-text.ts'
import { type Journal, openJournal } from '../../src/ledger/journal.ts'
import { openLedgerThread } from '../../src/ledger/ledger-thread.ts'
import { type Shipper, startShipper } from '../../src/ledger/shipper.ts'
import { openLog } from '../../src/log.ts'
import { type Database, openEmbeddedDatabase } from '../../src/storage/database.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { textsIn } from './journal-texts.ts'
import { quiet } from './quiet-parts.ts'
import { assertSoundRecord, recordOf } from './record-of.ts'
import { sampleEvents } from './sample-event.ts'
import { stretchOf } from './stretch-of.ts'

interface Line {
  folder: string
  journal: Journal
  database: Database
  startShipping(): Shipper
  logged: { level: string; copy?: string }[]
}

/** A journal of small segments, and a thread that takes events from it to the ledger once it is told to. */
async function openLine(context: TestContext): Promise<Line> {
  const opened = new AsyncDisposableStack()
  context.after(() => opened.disposeAsync())
  const folder = opened.use(temporaryFolder()).path
  const logged: Line['logged'] = []
  const log = openLog({ level: 'info' }, { write: (line) => logged.push(JSON.parse(line)) })
  const path = join(folder, 'tollgate.db')
  const database = opened.use(await openEmbeddedDatabase(path))
  const journalOptions = { path: join(folder, 'journal.db'), sync: 'normal', segmentBytesMax: 20_000 } as const
  const journal = opened.use(openJournal({ ...quiet, ...journalOptions, log }))
  const ledger = opened.use(openLedgerThread({ path }))
  const startShipping = () =>
    opened.use(startShipper({ ...quiet, journal, ledger, clock: systemClock, batchMax: 20, log }))
  return { folder, journal, database, startShipping, logged }
}

async function appendAll({ journal }: Line, count: number): Promise<string[]> {
  const events = sampleEvents(count)
  for (let start = 0; start < count; start += 10) {
    await Promise.all(events.slice(start, start + 10).map((event) => journal.append(event)))
  }
  return events.map((event) => event.idempotencyKey)
}

async function recordedKeys({ database }: Line): Promise<string[]> {
  return (await recordOf(database)).map((row) => row.idempotency_key)
}

test('nothing of the journal is read by the thread that serves requests', async (context) => {
  const line = await openLine(context)
  const reads = context.mock.method(fs, 'readSync').mock
  syncBuiltinESMExports()
  context.after(() => {
    reads.restore()
    syncBuiltinESMExports()
  })
  const keys = await appendAll(line, 300)
  await line.startShipping().flush()
  assert.deepEqual(await recordedKeys(line), keys)
  assert.equal(reads.callCount(), 0)
  await line.journal.append(sampleEvents(1)[0] ?? assert.fail())
  textsIn(line.journal)
  assert.ok(reads.callCount() > 0)
})

test('events that are appended while the thread writes stay until it has written them too', async (context) => {
  const line = await openLine(context)
  const keys = await appendAll(line, 200)
  const shipper = line.startShipping()
  keys.push(...(await appendAll(line, 200)))
  await shipper.flush()
  assert.deepEqual(await recordedKeys(line), keys)
  assert.equal(line.journal.depth(), 0)
  await assertSoundRecord(line.database)
})

test('what the thread finds damaged is told, copied and passed over; all else is recorded', async (context) => {
  const line = await openLine(context)
  const keys = await appendAll(line, 100)
  const names = readdirSync(line.folder).filter((name) => /^journal\.\d+\.log$/.test(name))
  const [first = '', second = ''] = names.map((name) => join(line.folder, name))
  writeFileSync(first, readFileSync(first, 'utf8').replace(keys[7] ?? '', 'x'.repeat(26)))
  writeFileSync(second, readFileSync(second, 'utf8').replace(/\n\n$/, 'xx'))
  const damaged = [first, second].map((path) => readFileSync(path, 'utf8'))
  const endOfSecond = keys.findLast((key) => damaged[1]?.includes(key))
  await line.startShipping().flush()
  const lost = [keys[7], endOfSecond]
  assert.deepEqual(
    await recordedKeys(line),
    keys.filter((key) => !lost.includes(key)),
  )
  assert.equal(line.journal.depth(), 0)
  const copies = [first, second].map((path) => `${path}.damaged`)
  assert.deepEqual(
    line.logged.map(({ level, copy }) => [level, copy]),
    copies.map((copy) => ['error', copy]),
  )
  for (const [index, copy] of copies.entries()) {
    assert.ok(readFileSync(copy, 'utf8').startsWith(damaged[index] ?? assert.fail()))
  }
  await assertSoundRecord(line.database)
})

test('a thread that cannot open its database fails the write; the next write starts another', async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'later', 'tollgate.db')
  await using thread = openLedgerThread({ path })
  const stretch = stretchOf(folder.path, sampleEvents(3).map(eventText))
  await assert.rejects(thread.write(stretch), /ENOENT/)
  mkdirSync(dirname(path))
  await using database = await openEmbeddedDatabase(path)
  const reading = { left: null, damagedAt: null }
  assert.deepEqual(await thread.write(stretch), { workspaceIds: ['workspace-a'], reading })
  assert.equal((await recordOf(database)).length, 3)
})

test('a stretch that cannot be read fails the write, and not the thread', async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'tollgate.db')
  await using database = await openEmbeddedDatabase(path)
  await using thread = openLedgerThread({ path })
  const stretch = stretchOf(folder.path, sampleEvents(3).map(eventText))
  await assert.rejects(thread.write({ ...stretch, path: `${stretch.path}.gone` }), /ENOENT/)
  const ofUnknownForm = stretchOf(folder.path, ['[3]'])
  await assert.rejects(thread.write(ofUnknownForm), /form 3/)
  assert.deepEqual((await thread.write(stretch)).workspaceIds, ['workspace-a'])
  assert.equal((await recordOf(database)).length, 3)
})
