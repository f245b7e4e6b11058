import assert from 'node:assert/strict'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventText } from '../../src/ledger/event-text.ts'
import { openJournal } from '../../src/ledger/journal.ts'
import { eventRecord } from '../../src/ledger/journal-record.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitsForDisk } from './disk-waits.ts'
import { textsIn } from './journal-texts.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvent, sampleEvents } from './sample-event.ts'

/** A journal as it was before it had segments: rows of events that were committed together, one on each line. */
function earlierJournal(path: string, rows: readonly (readonly string[])[]): void {
  const file = openSqliteFile(path, { synchronous: 'normal', locking: 'exclusive' })
  file.exec('CREATE TABLE events (id INTEGER PRIMARY KEY, text TEXT NOT NULL)')
  const insert = file.prepare('INSERT INTO events (id, text) VALUES (?, ?)')
  file.exec('BEGIN')
  let id = 7
  for (const row of rows) {
    id += row.length
    insert.run(id, row.join('\n'))
  }
  file.exec('COMMIT')
  file.close()
}

test('what an earlier version left in the journal is in front, and is moved once', async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'journal.db')
  const texts = sampleEvents(2_600).map(eventText)
  earlierJournal(path, [
    texts.slice(0, 1),
    ...Array.from({ length: 40 }, (_, row) => texts.slice(1 + row * 64, 65 + row * 64)),
    texts.slice(2_561),
  ])
  const bytesBefore = statSync(path).size
  const event = sampleEvent()
  {
    await using journal = openJournal({ path, sync: 'normal', ...quiet })
    assert.equal(journal.depth(), 2_600)
    await journal.append(event)
    assert.deepEqual(textsIn(journal), [...texts, eventText(event)])
  }
  assert.ok(statSync(path).size < bytesBefore / 10, 'the lock is small again')
  await using journal = openJournal({ path, sync: 'normal', ...quiet })
  assert.deepEqual(textsIn(journal), [...texts, eventText(event)])
})

test('killed while it moves what an earlier version left, the journal has all of it at the next start', async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'journal.db')
  const texts = sampleEvents(100).map(eventText)
  earlierJournal(path, [texts.slice(0, 50), texts.slice(50)])
  // A part has been moved, and no row removed.
  writeFileSync(join(folder.path, 'journal.00000001.log'), texts.slice(0, 60).map(eventRecord).join('').slice(0, -9))
  await using journal = openJournal({ path, sync: 'normal', ...quiet })
  assert.deepEqual(textsIn(journal), [...texts.slice(0, 59), ...texts])
})

test('what an earlier version left is on the disk before it is removed there, whatever sync is', async (context) => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'journal.db')
  earlierJournal(path, [sampleEvents(3).map(eventText)])
  const waits = waitsForDisk(context)
  await using _journal = openJournal({ path, sync: 'normal', ...quiet })
  assert.deepEqual(waits, ['fdatasyncSync', 'fsyncSync'])
})
