import assert from 'node:assert/strict'
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { eventText } from '../../src/ledger/event-text.ts'
import { type Journal, openJournal } from '../../src/ledger/journal.ts'
import { eventRecord } from '../../src/ledger/journal-record.ts'
import type { JournalBatch } from '../../src/ledger/journal-segments.ts'
import { quiet } from '../ledger/quiet-parts.ts'
import { sampleEvent } from '../ledger/sample-event.ts'
import { temporaryFolder } from '../ledger/temporary-folder.ts'

/** A journal, and the array that it must agree with. */
interface Pair {
  root: string
  folder: string
  journal: Journal
  acknowledged: string[]
  /** How many of `acknowledged` have been removed. */
  removed: number
  /** What was read since the journal was opened, and how many events had been read by its end. */
  batches: { batch: JournalBatch; end: number }[]
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
  const steps = fc.array(fc.oneof(append, appendWhileTaking, take, look, removeWhatWasRead, reopen, kill), {
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
          assert.deepEqual(pair.journal.read(10_000).texts, expected)
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

function readNow(pair: Pair, max: number): { batch: JournalBatch; end: number } {
  const batch = pair.journal.read(max)
  assert.deepEqual(batch.texts, pair.acknowledged.slice(pair.removed).slice(0, max))
  const known = { batch, end: pair.removed + batch.texts.length }
  pair.batches.push(known)
  return known
}

function takeNow(pair: Pair, max: number): void {
  remove(pair, readNow(pair, max))
}

function remove(pair: Pair, { batch, end }: { batch: JournalBatch; end: number }): void {
  pair.journal.remove(batch)
  pair.removed = Math.max(pair.removed, end)
}

function segmentsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .sort()
}
