import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BillingEvent, outcomes, usageSources } from '../../src/ledger/billing-event.ts'
import { eventOfText, eventText } from '../../src/ledger/event-text.ts'
import { type Journal, JournalError, openJournal } from '../../src/ledger/journal.ts'
import { readStretch } from '../../src/ledger/journal-stretch.ts'
import { openLog } from '../../src/log.ts'
import { tokensMax } from '../../src/token-bounds.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitsForDisk } from './disk-waits.ts'
import { takeTexts, textsIn } from './journal-texts.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvent, sampleEvents } from './sample-event.ts'

function openJournalIn(folder: { path: string }, sync: 'normal' | 'full' = 'normal'): Journal {
  return openJournal({ path: join(folder.path, 'journal.db'), sync, ...quiet })
}

function eventsIn(journal: Journal): BillingEvent[] {
  return textsIn(journal).map(eventOfText)
}

async function appendAll(journal: Journal, events: readonly BillingEvent[]): Promise<void> {
  await Promise.all(events.map((event) => journal.append(event)))
}

for (const sync of ['normal', 'full'] as const) {
  test(`a journal with sync ${sync} gives back the events it took, oldest first, after it was closed`, async () => {
    using folder = temporaryFolder()
    const events = sampleEvents(25)
    {
      await using journal = openJournalIn(folder, sync)
      await appendAll(journal, events.slice(0, 20))
      for (const event of events.slice(20)) await journal.append(event)
    }
    await using journal = openJournalIn(folder, sync)
    assert.deepEqual(eventsIn(journal), events)
    assert.equal(journal.depth(), 25)
  })
}

test('with sync full a commit waits for the disk, and a removal does not; with normal neither does', async (context) => {
  const waits = waitsForDisk(context)
  for (const [sync, expected] of [
    // The first commit also has the new file's name in its folder.
    ['full', ['fdatasyncSync', 'fsyncSync', 'fdatasyncSync']],
    ['normal', []],
  ] as const) {
    using folder = temporaryFolder()
    await using journal = openJournalIn(folder, sync)
    await appendAll(journal, sampleEvents(10))
    await appendAll(journal, sampleEvents(10))
    takeTexts(journal, 5)
    assert.deepEqual(waits.splice(0), expected, sync)
  }
})

test('what is removed from the journal is gone, and nothing that came later', async () => {
  using folder = temporaryFolder()
  await using journal = openJournalIn(folder)
  const events = sampleEvents(10)
  await appendAll(journal, events.slice(0, 4))
  await appendAll(journal, events.slice(4))
  takeTexts(journal, 3)
  assert.deepEqual(eventsIn(journal), events.slice(3))
  assert.equal(journal.depth(), 7)
})

test('removing what was removed before removes nothing that came later', async () => {
  using folder = temporaryFolder()
  await using journal = openJournalIn(folder)
  await journal.append(sampleEvent())
  const [stretch] = journal.stretches(1)
  assert.ok(stretch !== undefined)
  const { reading } = readStretch(stretch)
  journal.remove(stretch, reading)
  const kept = sampleEvent()
  await journal.append(kept)
  journal.remove(stretch, reading)
  assert.deepEqual(eventsIn(journal), [kept])
  assert.equal(journal.depth(), 1)
})

test('events of one turn of the event loop share one commit', async () => {
  using folder = temporaryFolder()
  await using journal = openJournalIn(folder)
  let commits = 0
  journal.onAppended(() => {
    commits += 1
  })
  await appendAll(journal, sampleEvents(10))
  assert.equal(commits, 1)
  await journal.append(sampleEvent())
  assert.equal(commits, 2)
})

test('an event alone is committed within the turn of the event loop, without a timer', async () => {
  using folder = temporaryFolder()
  await using journal = openJournalIn(folder)
  let isCommitted = false
  const append = journal.append(sampleEvent()).then(() => {
    isCommitted = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  assert.ok(isCommitted)
  await append
})

test('closing the journal commits what is still waiting, and later appends reject', async () => {
  using folder = temporaryFolder()
  const event = sampleEvent()
  const journal = openJournalIn(folder)
  const append = journal.append(event)
  await journal[Symbol.asyncDispose]()
  await append
  await assert.rejects(journal.append(sampleEvent()), JournalError)
  await using reopened = openJournalIn(folder)
  assert.deepEqual(eventsIn(reopened), [event])
})

test('an event whose token counts are no counts is refused alone', async () => {
  using folder = temporaryFolder()
  await using journal = openJournalIn(folder)
  const good = sampleEvent()
  for (const inputTokens of [Number.NaN, -1, 1.5, Number.POSITIVE_INFINITY, tokensMax + 1]) {
    const bad = sampleEvent({ tokens: { inputTokens, outputTokens: 0, cachedInputTokens: 0 } })
    await assert.rejects(journal.append(bad), RangeError)
  }
  await journal.append(good)
  assert.deepEqual(eventsIn(journal), [good])
})

test('a journal over its bound raises one alarm and still takes every event', async () => {
  using folder = temporaryFolder()
  const lines: string[] = []
  const depths: number[] = []
  await using journal = openJournal({
    path: join(folder.path, 'journal.db'),
    sync: 'normal',
    log: openLog({ level: 'info' }, { write: (line) => lines.push(line) }),
    metrics: { journalDepth: (events) => depths.push(events) },
    eventsMax: 3,
  })
  for (const event of sampleEvents(3)) await journal.append(event)
  assert.deepEqual(lines, [])
  for (const event of sampleEvents(3)) await journal.append(event)
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).eventsMax),
    [3],
  )
  assert.equal(journal.depth(), 6)
  assert.deepEqual(depths, [0, 1, 2, 3, 4, 5, 6])
})

test('the journal is readable by its owner alone', async () => {
  using folder = temporaryFolder()
  await using journal = openJournalIn(folder)
  await journal.append(sampleEvent())
  const names = readdirSync(folder.path)
  assert.ok(names.includes('journal.00000001.log'), names.join())
  for (const name of names) assert.equal(statSync(join(folder.path, name)).mode & 0o777, 0o600, name)
})

test('a journal that is open cannot be opened a second time, and says why', async () => {
  using folder = temporaryFolder()
  {
    await using _journal = openJournalIn(folder)
    assert.throws(() => openJournalIn(folder), {
      name: 'StartError',
      message: /journal\.db cannot be opened: .*locked/,
    })
  }
  await using journal = openJournalIn(folder)
  assert.equal(journal.depth(), 0)
})

test('every event reads from the journal as it was written', () => {
  const time = fc.nat({ max: Number.MAX_SAFE_INTEGER })
  const count = fc.nat({ max: tokensMax })
  const text = fc.string({ unit: 'grapheme' })
  const plain = { noNullPrototype: true }
  const event: fc.Arbitrary<BillingEvent> = fc.record(
    {
      idempotencyKey: text,
      workspaceId: text,
      requestId: text,
      recordedAtMs: time,
      admittedAtMs: time,
      node: text,
      requestMetadata: fc.option(fc.json()),
      modelSlug: text,
      apiKeyPrefix: text,
      groupId: fc.option(text),
      externalEntityId: fc.option(text),
      countedGroups: fc.array(text),
      tokens: fc.record({ inputTokens: count, outputTokens: count, cachedInputTokens: count }, plain),
      outcome: fc.constantFrom(...outcomes),
      usageSource: fc.constantFrom(...usageSources),
    },
    plain,
  )
  fc.assert(fc.property(event, (written) => assert.deepEqual(eventOfText(eventText(written)), written)))
})
