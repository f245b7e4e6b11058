import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { eventText } from '../../src/ledger/event-text.ts'
import { openJournal } from '../../src/ledger/journal.ts'
import { eventRecord } from '../../src/ledger/journal-record.ts'
import { JournalSegments } from '../../src/ledger/journal-segments.ts'
import { type JournalStretch, readStretch } from '../../src/ledger/journal-stretch.ts'
import { shipLeftJournals } from '../../src/ledger/left-journals.ts'
import { openLog } from '../../src/log.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { takeTexts, textsIn } from './journal-texts.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvents } from './sample-event.ts'
import { startAppending } from './start-appending.ts'

interface Logged {
  level: string
  copy?: string
}

/** The segments in `folder`, and what opening and using them says to the log. */
function segmentsIn(folder: string, segmentBytesMax = 1_000_000): { segments: JournalSegments; logged: Logged[] } {
  const logged: Logged[] = []
  const log = openLog({ level: 'info' }, { write: (line) => logged.push(JSON.parse(line)) })
  return { segments: new JournalSegments({ stem: join(folder, 'journal'), segmentBytesMax, log }), logged }
}

/** A folder with the one segment `bytes`, as a killed process has left it. */
function leftSegment(parent: string, bytes: Uint8Array): string {
  const folder = join(parent, 'left')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  writeFileSync(join(folder, 'journal.00000001.log'), bytes)
  return folder
}

/** The bytes of a segment in which `texts` were appended one after the other. */
function segmentOf(folder: string, texts: readonly string[]): Buffer {
  const { segments } = segmentsIn(folder)
  for (const text of texts) segments.append([text], 'normal')
  return readFileSync(join(folder, 'journal.00000001.log'))
}

function logFilesIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.includes('.log'))
}

test('a record torn at any byte is left out alone, and nothing is ever glued to it', async () => {
  using folder = temporaryFolder()
  const texts = ['["first"]', '["größer"]', '["the last 日本 one"]']
  const whole = segmentOf(folder.path, texts)
  const lastStart = whole.length - Buffer.byteLength(eventRecord(texts[2] ?? ''))
  for (let length = lastStart; length <= whole.length; length += 1) {
    // All but the empty line behind it: it is whole.
    const kept = length >= whole.length - 1 ? texts : texts.slice(0, 2)
    const left = leftSegment(folder.path, whole.subarray(0, length))
    const { segments, logged } = segmentsIn(left)
    assert.deepEqual(textsIn(segments), kept, `cut at ${length}`)
    assert.equal(segments.depth, kept.length)
    const isTorn = length > lastStart && kept.length === 2
    assert.deepEqual(
      logged.map(({ level }) => level),
      isTorn ? ['info'] : [],
    )
    segments.append(['["later"]'], 'normal')
    const next = segmentsIn(left)
    assert.deepEqual(takeTexts(next.segments), [...kept, '["later"]'], `cut at ${length}`)
    assert.ok(!next.logged.some(({ level }) => level === 'error'))
    await next.segments.close()
  }
})

test('a damaged byte costs at most one event, its own; the log says so, and a copy is kept', () => {
  using folder = temporaryFolder()
  const texts = ['["a"]', '["bé"]', '["c"]', '["d"]']
  const whole = segmentOf(folder.path, texts)
  // The empty line behind a record counts as the next one's.
  const lineEnds = texts.map((_, index) => whole.length - segmentBytes(texts.slice(index + 1)) - 1)
  for (let offset = 0; offset < whole.length; offset += 1) {
    for (const damage of [(byte: number) => byte ^ 1, () => 0x0a, () => 0, () => 0xff]) {
      const damaged = Buffer.from(whole)
      damaged[offset] = damage(whole[offset] ?? 0)
      const left = leftSegment(folder.path, damaged)
      const { segments, logged } = segmentsIn(left)
      const kept = takeTexts(segments)
      const own = texts[lineEnds.findIndex((end) => offset < end)]
      const lost = texts.filter((text) => !kept.includes(text))
      assert.deepEqual(
        kept,
        texts.filter((text) => text !== lost[0]),
        `byte ${offset}`,
      )
      assert.ok(lost.length === 0 || lost[0] === own, `byte ${offset} cost ${lost[0]}`)
      assert.equal(segments.depth, 0, 'what is damaged does not stay for ever')
      if (lost.length === 0) continue
      const copy = join(left, 'journal.00000001.log.damaged')
      const errors = logged.filter(({ level }) => level === 'error')
      assert.deepEqual(
        errors.map((line) => line.copy),
        [copy],
      )
      assert.deepEqual(readFileSync(copy), damaged)
    }
  }
})

function segmentBytes(texts: readonly string[]): number {
  return Buffer.byteLength(texts.map(eventRecord).join(''))
}

test('a line end that is damaged while the journal is open leaves nothing behind that cannot be removed', () => {
  for (const [whole, damaged] of [
    ['"a"]\n\n', '"a"]xx'],
    ['"c"', '"\n"'],
  ] as const) {
    using folder = temporaryFolder()
    const { segments } = segmentsIn(folder.path)
    segments.append(['["a"]', '["b"]', '["c"]'], 'normal')
    const path = join(folder.path, 'journal.00000001.log')
    writeFileSync(path, readFileSync(path, 'utf8').replace(whole, damaged))
    takeTexts(segments)
    assert.equal(segments.depth, 0, damaged)
  }
})

test('what is damaged while the journal is open is passed over too', async () => {
  using folder = temporaryFolder()
  const { segments, logged } = segmentsIn(folder.path)
  segments.append(['["a"]', '["b"]', '["c"]'], 'normal')
  const path = join(folder.path, 'journal.00000001.log')
  writeFileSync(path, readFileSync(path, 'utf8').replace('"b"', '"x"'))
  assert.deepEqual(takeTexts(segments), ['["a"]', '["c"]'])
  assert.equal(segments.depth, 0)
  assert.deepEqual(
    logged.map(({ level }) => level),
    ['error'],
  )
  await segments.close()
  assert.deepEqual(logFilesIn(folder.path), ['journal.00000001.log.damaged'])
  const next = segmentsIn(folder.path).segments
  next.append(['["d"]'], 'normal')
  assert.deepEqual(logFilesIn(folder.path), ['journal.00000001.log.damaged', 'journal.00000002.log'])
})

test('a damaged file costs no more than what was damaged, also where it is no text', () => {
  using folder = temporaryFolder()
  const texts = Array.from({ length: 2_000 }, (_, index) => `["event ${index}, of a length"]`)
  const bytes = segmentOf(folder.path, texts)
  bytes.fill(0, 40_000, 44_096)
  const { segments } = segmentsIn(leftSegment(folder.path, bytes))
  const kept = textsIn(segments)
  assert.ok(kept.every((text) => texts.includes(text)))
  const recordBytes = segmentBytes(texts.slice(-1))
  assert.ok(kept.length >= texts.length - Math.ceil(4_096 / recordBytes) - 2, `${kept.length} were kept`)
})

test('segments are followed by others, and deleted once all that is in them has been removed', async () => {
  using folder = temporaryFolder()
  const { segments } = segmentsIn(folder.path, 10_000)
  const texts = Array.from({ length: 3_000 }, (_, index) => `["event ${index}"]`)
  for (let start = 0; start < texts.length; start += 10) segments.append(texts.slice(start, start + 10), 'normal')
  const files = logFilesIn(folder.path).length
  assert.ok(files >= Math.floor(segmentBytes(texts) / 11_000), `there are ${files}`)
  assert.deepEqual(takeTexts(segments, 2_000), texts.slice(0, 2_000))
  await until(() => logFilesIn(folder.path).length <= Math.ceil(files / 3) + 1)
  assert.deepEqual(textsIn(segments), texts.slice(2_000))
  takeTexts(segments)
  await until(() => logFilesIn(folder.path).length === 1)
  await segments.close()
  assert.deepEqual(logFilesIn(folder.path), [])
})

test('the newest segment alone says what has been removed', () => {
  using folder = temporaryFolder()
  const { segments } = segmentsIn(folder.path, 50)
  segments.append(['["removed"]', '["kept"]'], 'normal')
  takeTexts(segments, 1)
  segments.append(['["later"]'], 'normal')
  const first = join(folder.path, 'journal.00000001.log')
  assert.equal(logFilesIn(folder.path).length, 2)
  writeFileSync(first, readFileSync(first, 'utf8').replace('removed 1', 'removed 0'))
  assert.deepEqual(textsIn(segmentsIn(folder.path).segments), ['["kept"]', '["later"]'])
})

test('a journal that was emptied and closed leaves nothing but its lock', async () => {
  using folder = temporaryFolder()
  {
    await using journal = openJournal({ path: join(folder.path, 'journal.db'), sync: 'normal', ...quiet })
    for (const event of sampleEvents(3)) await journal.append(event)
    takeTexts(journal)
  }
  assert.deepEqual(readdirSync(folder.path), ['journal.db'])
})

test('events that were removed before a kill are not given back, and later ones are', async () => {
  using folder = temporaryFolder()
  const later = await (async () => {
    await using appending = startAppending(folder.path)
    await appending.append()
    await appending.remove()
    return await appending.append()
  })()
  await using journal = openJournal({ path: join(folder.path, 'journal.db'), sync: 'normal', ...quiet })
  assert.equal(journal.depth(), 100)
  assert.deepEqual(textsIn(journal).map(keyOf), later.acknowledged)
})

function keyOf(text: string): string {
  return JSON.parse(text)[1]
}

test('a journal that came from another node without its lock is shipped', async () => {
  using folder = temporaryFolder()
  const texts = sampleEvents(3).map(eventText)
  copyFileSync(leftSegmentPath(folder.path, texts), join(folder.path, 'journal-901.00000001.log'))
  const written: string[] = []
  const ledger = {
    write: async (stretch: JournalStretch) => {
      const { texts, reading } = readStretch(stretch)
      written.push(...texts)
      return { workspaceIds: [], reading }
    },
  }
  await shipLeftJournals(folder.path, ['journal.db'], { ledger, clock: systemClock, ...quiet })
  assert.deepEqual(written, texts)
  assert.deepEqual(readdirSync(folder.path).sort(), ['journal-901.db', 'left'])
})

function leftSegmentPath(parent: string, texts: readonly string[]): string {
  return join(leftSegment(parent, Buffer.from(texts.map(eventRecord).join(''))), 'journal.00000001.log')
}
