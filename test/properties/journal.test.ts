import assert from 'node:assert/strict'
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { eventText } from '../../src/ledger/event-text.ts'
import { type Journal, openJournal } from '../../src/ledger/journal.ts'
import { eventRecord } from '../../src/ledger/journal-record.ts'
import { type JournalStretch, readStretch, type StretchReading } from '../../src/ledger/journal-stretch.ts'
import { textsIn } from '../ledger/journal-texts.ts'
import { quiet } from '../ledger/quiet-parts.ts'
import { sampleEvent } from '../ledger/sample-event.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

/** A journal, and the array that it must agree with. */
interface Pair {
  root: string
  folder: string
  journal: Journal
  acknowledged: string[]
  /** How many of `acknowledged` have been removed. */
  removed: number
  /** What was read since the journal was opened. */
  batches: Batch[]
}

/** A reading, and how many of all events were before it and are by its end. */
interface Batch {
  stretch: JournalStretch
  reading: StretchReading
  start: number
  end: number
}

type Step = (pair: Pair) => Promise<void>

const anEvent = fc
  .oneof(fc.string({ unit: 'grapheme', maxLength: 20 }), fc.nat({ max: 3_000 }).map(metadataOf), fc.constant('large'))
  .map((note) => (note === 'large' ? metadataOf(150_000) : note))
const someEvents = fc.array(anEvent, { minLength: 1, maxLength: 8 })
const anAmount = fc.integer({ min: 1, max: 20 })

function metadataOf(length: number): string {
  return 'é'.repeat(length)
}

const append: fc.Arbitrary<Step> = someEvents.map((notes) => async (pair) => {
  await appended(pair, notes)
})

const appendWhileTaking: fc.Arbitrary<Step> = fc.tuple(someEvents, anAmount).map(([notes, max]) => async (pair) => {
  const appending = appended(pair, notes)
  takeNow(pair, max)
  await appending
})

const take: fc.Arbitrary<Step> = anAmount.map((max) => async (pair) => takeNow(pair, max))

/** As the shipper does it, while events are appended. */
const takeAll: fc.Arbitrary<Step> = fc.tuple(someEvents, anAmount).map(([notes, max]) => async (pair) => {
  const before = pair.acknowledged.length
  for (const stretch of pair.journal.stretches(max)) {
    for (let left: JournalStretch | null = stretch; left !== null; ) {
      const batch = read(pair, left)
      await appended(pair, notes)
      remove(pair, batch)
      left = batch.reading.left
    }
  }
  assert.equal(pair.removed, before)
})

const look: fc.Arbitrary<Step> = anAmount.map((max) => async (pair) => {
  readNow(pair, max)
})

const removeWhatWasRead: fc.Arbitrary<Step> = fc.nat().map((which) => async (pair) => {
  const known = pair.batches[which % Math.max(1, pair.batches.length)]
  if (known !== undefined) remove(pair, known)
})

const reopen: fc.Arbitrary<Step> = fc.constant(async (pair) => {
  await pair.journal[Symbol.asyncDispose]()
  if (pair.removed === pair.acknowledged.length) assert.deepEqual(segmentsIn(pair.folder), [])
  openAnew(pair)
})

const aPart = fc.double({ min: 0, max: 1, noNaN: true })

const kill: fc.Arbitrary<Step> = fc.tuple(anEvent, aPart).map(([note, part]) => async (pair) => {
  await killAndOpen(pair, { tornNote: note, tornPart: part })
})

test('however appends, readings, removals, restarts and kills interleave, the journal holds what an array would', async () => {
  const steps = fc.array(fc.oneof(append, appendWhileTaking, take, takeAll, look, removeWhatWasRead, reopen, kill), {
    maxLength: 40,
    size: 'max',
  })
  await fc.assert(
    fc.asyncProperty(steps, async (run) => {
      using root = temporaryFolder()
      const folder = join(root.path, 'first')
      mkdirSync(folder)
      const pair: Pair = { root: root.path, folder, journal: opened(folder), acknowledged: [], removed: 0, batches: [] }
      try {
        for (const step of run) {
          await step(pair)
          const expected = pair.acknowledged.slice(pair.removed)
          assert.equal(pair.journal.depth(), expected.length)
          assert.deepEqual(textsIn(pair.journal), expected)
        }
      } finally {
        await pair.journal[Symbol.asyncDispose]()
      }
    }),
    { numRuns: 60 },
  )
})

/** With small segments, so that there are many. */
function opened(folder: string): Journal {
  return openJournal({ path: join(folder, 'journal.db'), sync: 'normal', segmentBytesMax: 2_000, ...quiet })
}

function openAnew(pair: Pair): void {
  pair.journal = opened(pair.folder)
  pair.batches = []
}

/** What a killed process leaves: its files as they are, and perhaps a part of a record. */
async function killAndOpen(pair: Pair, { tornNote, tornPart }: { tornNote: string; tornPart: number }): Promise<void> {
  const left = pair.folder
  pair.folder = join(pair.root, String(readdirSync(pair.root).length))
  mkdirSync(pair.folder)
  for (const name of segmentsIn(left)) copyPresent(join(left, name), join(pair.folder, name))
  await pair.journal[Symbol.asyncDispose]()
  const torn = Buffer.from(eventRecord(textOf(tornNote))).subarray(0, -2)
  for (const newest of segmentsIn(pair.folder).slice(-1)) {
    appendFileSync(join(pair.folder, newest), torn.subarray(0, Math.floor(tornPart * torn.length)))
  }
  openAnew(pair)
}

/** What is being deleted may be gone, as it may be for whoever comes after a kill. */
function copyPresent(from: string, to: string): void {
  try {
    copyFileSync(from, to)
  } catch (error) {
    assert.ok(!existsSync(from), String(error))
  }
}

async function appended(pair: Pair, notes: readonly string[]): Promise<void> {
  const events = notes.map((note) => sampleEvent({ requestMetadata: note }))
  await Promise.all(events.map((event) => pair.journal.append(event)))
  pair.acknowledged.push(...events.map(eventText))
}

function textOf(note: string): string {
  return eventText(sampleEvent({ requestMetadata: note }))
}

/** The first batch of what the journal holds; null when that is nothing. */
function readNow(pair: Pair, max: number): Batch | null {
  const [oldest] = pair.journal.stretches(max)
  assert.equal(oldest === undefined, pair.removed === pair.acknowledged.length)
  return oldest === undefined ? null : read(pair, oldest)
}

function read(pair: Pair, stretch: JournalStretch): Batch {
  const { texts, reading } = readStretch(stretch)
  const end = pair.removed + texts.length
  assert.equal(texts.length, Math.min(stretch.events, stretch.eventsMax))
  assert.deepEqual(texts, pair.acknowledged.slice(pair.removed, end))
  const batch = { stretch, reading, start: pair.removed, end }
  pair.batches.push(batch)
  return batch
}

function takeNow(pair: Pair, max: number): void {
  const batch = readNow(pair, max)
  if (batch !== null) remove(pair, batch)
}

/** A batch that is not the oldest any more changes nothing. */
function remove(pair: Pair, { stretch, reading, start, end }: Batch): void {
  pair.journal.remove(stretch, reading)
  if (start === pair.removed) pair.removed = end
}

function segmentsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .sort()
}
