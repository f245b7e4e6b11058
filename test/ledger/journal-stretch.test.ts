import assert from 'node:assert/strict'
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventRecord, removalRecord } from '../../src/ledger/journal-record.ts'
import { JournalSegments } from '../../src/ledger/journal-segments.ts'
import { type JournalStretch, readStretch } from '../../src/ledger/journal-stretch.ts'
import { openLog } from '../../src/log.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { takeTexts, textsIn } from './journal-texts.ts'
import { stretchOf } from './stretch-of.ts'

const texts = ['["a"]', '["b"]', '["c"]', '["d"]', '["e"]']

interface Opened extends Disposable {
  segments: JournalSegments
  /** The first segment's file. */
  path: string
  logged: { level: string; offset: number; copy: string }[]
}

function openSegments({ segmentBytesMax = 1_000_000 } = {}): Opened {
  const folder = temporaryFolder()
  const logged: Opened['logged'] = []
  const log = openLog({ level: 'info' }, { write: (line) => logged.push(JSON.parse(line)) })
  const stem = join(folder.path, 'journal')
  const segments = new JournalSegments({ stem, segmentBytesMax, log })
  return { segments, path: `${stem}.00000001.log`, logged, [Symbol.dispose]: () => folder[Symbol.dispose]() }
}

/** The journal of which `path` is the first segment, as the next start has it. */
function openAnew(path: string): JournalSegments {
  const stem = path.replace('.00000001.log', '')
  return new JournalSegments({ stem, segmentBytesMax: 1_000_000, log: openLog({ level: 'silent' }) })
}

function oldestOf(segments: JournalSegments, eventsMax = 1_000): JournalStretch {
  const [oldest] = segments.stretches(eventsMax)
  assert.ok(oldest !== undefined)
  return oldest
}

/** Reads and removes a batch, and returns where the next one is. */
function takeBatch(segments: JournalSegments, stretch: JournalStretch) {
  const { texts, reading } = readStretch(stretch)
  segments.remove(stretch, reading)
  return { texts, left: reading.left }
}

test('a batch that ends within a segment leaves the rest to the next ones, and what came later to later ones', () => {
  using opened = openSegments()
  const { segments } = opened
  segments.append(texts, 'normal')
  const batches: string[][] = []
  for (let left: JournalStretch | null = oldestOf(segments, 2); left !== null; ) {
    const batch = takeBatch(segments, left)
    segments.append(['["later"]'], 'normal')
    batches.push(batch.texts)
    left = batch.left
  }
  assert.deepEqual(batches, [texts.slice(0, 2), texts.slice(2, 4), texts.slice(4)])
  assert.equal(segments.depth, 3)
  assert.deepEqual(textsIn(segments), Array(3).fill('["later"]'))
})

test('a stretch ends where the last commit did when it was handed out', () => {
  using opened = openSegments()
  const { segments, path } = opened
  segments.append(texts.slice(0, 2), 'normal')
  const stretch = oldestOf(segments)
  segments.append(['["later"]'], 'normal')
  appendFileSync(path, eventRecord('["of a write that failed"]'))
  assert.deepEqual(readStretch(stretch).texts, texts.slice(0, 2))
  assert.deepEqual(textsIn(segments), [...texts.slice(0, 2), '["later"]'])
})

test('what is not the oldest of the journal is not removed before it', () => {
  using opened = openSegments({ segmentBytesMax: 1 })
  const { segments } = opened
  for (const text of texts.slice(0, 3)) segments.append([text], 'normal')
  const [, second] = segments.stretches(10)
  assert.ok(second !== undefined)
  takeBatch(segments, second)
  assert.equal(segments.depth, 3)
  assert.deepEqual(textsIn(segments), texts.slice(0, 3))
})

test('records that are larger than what is read at a time are whole, and so are those between them', () => {
  using folder = temporaryFolder()
  const large = `["${'größer '.repeat(60_000)}"]`
  const mixed = ['["a"]', large, '["b"]', large, large, '["c"]']
  const stretch = stretchOf(folder.path, mixed)
  assert.deepEqual(readStretch(stretch), { texts: mixed, reading: { left: null, damagedAt: null } })
  const batches: string[][] = []
  for (
    let left: JournalStretch | null = { ...stretch, eventsMax: 2 };
    left !== null;
    left = readStretch(left).reading.left
  )
    batches.push(readStretch(left).texts)
  assert.deepEqual(batches, [mixed.slice(0, 2), mixed.slice(2, 4), mixed.slice(4)])
})

test('a stretch in which there are only removals has nothing, and nothing is left of it', () => {
  using folder = temporaryFolder()
  const stretch = { ...stretchOf(folder.path, []), events: 3 }
  const removals = removalRecord({ segment: 1, offset: 0 }).repeat(5_000)
  writeFileSync(stretch.path, removals)
  const { texts, reading } = readStretch({ ...stretch, to: removals.length })
  assert.deepEqual({ texts, reading }, { texts: [], reading: { left: null, damagedAt: null } })
})

test('segments that hold nothing but removals are passed by, before a restart and after it', async () => {
  using opened = openSegments({ segmentBytesMax: 1 })
  const { segments, path, logged } = opened
  for (const text of texts) {
    segments.append([text], 'normal')
    if (text !== '["e"]') takeTexts(segments, 1)
  }
  segments.append(['["later"]'], 'normal')
  assert.deepEqual(textsIn(segments), ['["e"]', '["later"]'])
  // Files that it is still deleting would be there for the next one, and then not.
  await segments.close()
  const next = openAnew(path)
  assert.deepEqual(takeTexts(next), ['["e"]', '["later"]'])
  assert.equal(next.depth, 0)
  assert.deepEqual(next.stretches(10), [])
  assert.deepEqual(logged, [])
})

for (const [damage, kept, change] of [
  ['a committed record that has lost its line ends', 4, withoutLineEnds],
  ['a segment that has lost its end', 3, (bytes: Buffer) => bytes.subarray(0, -30)],
  ['a segment that ends early, between two records', 4, (bytes: Buffer) => bytes.subarray(0, -16)],
] as const) {
  test(`${damage} is damaged, and what follows it is shipped`, () => {
    using opened = openSegments({ segmentBytesMax: 50 })
    const { segments, path, logged } = opened
    segments.append(texts, 'normal')
    segments.append(['["later"]'], 'normal')
    const whole = readFileSync(path)
    const damaged = change(whole)
    writeFileSync(path, damaged)
    const batch = takeBatch(segments, oldestOf(segments))
    assert.deepEqual(batch, { texts: texts.slice(0, kept), left: null })
    const [said, ...more] = logged
    assert.deepEqual([said?.level, said?.offset, more.length], ['error', whole.length, 0])
    assert.deepEqual(readFileSync(`${path}.damaged`), damaged)
    assert.equal(segments.depth, 1)
    assert.deepEqual(takeTexts(segments), ['["later"]'])
  })
}

function withoutLineEnds(bytes: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, -2), Buffer.from('xx')])
}

test('what is appended behind a record that has lost its line ends is shipped', () => {
  using opened = openSegments()
  const { segments, path } = opened
  segments.append(texts, 'normal')
  writeFileSync(path, withoutLineEnds(readFileSync(path)))
  assert.deepEqual(takeTexts(segments), texts.slice(0, 4))
  segments.append(['["later"]'], 'normal')
  assert.equal(segments.depth, 1)
  assert.deepEqual(takeTexts(segments), ['["later"]'])
})

test('a damaged record counts as an event until it has been passed over, before a restart and after it', () => {
  using opened = openSegments()
  const { segments, path } = opened
  segments.append(texts, 'normal')
  writeFileSync(path, readFileSync(path, 'utf8').replace('"b"', '"x"'))
  assert.equal(segments.depth, 5)
  assert.deepEqual(takeTexts(segments, 1), texts.slice(0, 1))
  for (const counting of [openAnew(path), segments]) {
    assert.equal(counting.depth, 4)
    assert.deepEqual(takeTexts(counting, 2), texts.slice(2, 4))
    assert.equal(counting.depth, 1)
  }
})

test('damage that makes more records than there were hides no event behind it', () => {
  for (const eventsMax of [1, 2, 5]) {
    using opened = openSegments()
    const { segments, path } = opened
    segments.append([`["${'a'.repeat(100)}"]`, ...texts], 'normal')
    writeFileSync(path, readFileSync(path, 'utf8').replace(/a{100}/, 'x\n'.repeat(50)))
    const taken: string[] = []
    for (let left: JournalStretch | null = oldestOf(segments, eventsMax); left !== null; ) {
      assert.ok(segments.depth > 0)
      const batch = takeBatch(segments, left)
      taken.push(...batch.texts)
      left = batch.left
    }
    assert.deepEqual(taken, texts)
    assert.equal(segments.depth, 0)
  }
})

test('damage that makes fewer records than there were leaves nothing that is never removed', () => {
  using opened = openSegments()
  const { segments, path } = opened
  segments.append(texts, 'normal')
  writeFileSync(path, readFileSync(path, 'utf8').replace(/"a"\]\n\n/, '"a"]xx'))
  segments.append(['["later"]'], 'normal')
  assert.deepEqual(takeTexts(segments, 3), texts.slice(2))
  assert.deepEqual(takeTexts(segments), ['["later"]'])
  assert.equal(segments.depth, 0)
})

test('a segment stays as it is until what was read of it is removed, whatever is appended', async () => {
  using opened = openSegments({ segmentBytesMax: 30 })
  const { segments, path } = opened
  segments.append(texts.slice(0, 2), 'normal')
  const stretch = oldestOf(segments)
  for (const text of texts.slice(2)) segments.append([text], 'normal')
  const read = readStretch(stretch)
  assert.deepEqual(read.texts, texts.slice(0, 2))
  segments.remove(stretch, read.reading)
  assert.deepEqual(takeTexts(segments), texts.slice(2))
  await segments.close()
  assert.deepEqual(readdirSync(join(path, '..')), [])
})
