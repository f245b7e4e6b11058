import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EventQuery } from '../../src/ledger/event-page.ts'
import { type Ledger, openLedger } from '../../src/ledger/ledger.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { sampleEvent, sampleEvents, workspaceKeyEvent } from './sample-event.ts'

const noonMs = Date.parse('2026-01-15T12:00:00.000Z')

async function openEmptyLedger(): Promise<AsyncDisposable & { ledger: Ledger }> {
  await using opened = new AsyncDisposableStack()
  const folder = opened.use(temporaryFolder())
  const database = opened.use(await openTestDatabase(folder.path))
  const parts = opened.move()
  return { ledger: openLedger({ database }), [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

function query(fields: Partial<EventQuery> = {}): EventQuery {
  return {
    workspaceId: 'workspace-a',
    startMs: 0,
    endMs: Number.MAX_SAFE_INTEGER,
    afterPosition: 0,
    apiKeyPrefixes: null,
    externalEntityIds: null,
    limit: 100,
    ...fields,
  }
}

/** The idempotency keys of all pages, and how many pages it took. */
async function readAll(ledger: Ledger, fields: Partial<EventQuery>): Promise<{ keys: string[]; pages: number }> {
  const keys: string[] = []
  let pages = 0
  for (let afterPosition: number | null = 0; afterPosition !== null; pages += 1) {
    const page = await ledger.events(query({ ...fields, afterPosition }))
    keys.push(...page.events.map((event) => event.idempotencyKey))
    afterPosition = page.nextAfter
  }
  return { keys, pages }
}

test('an event comes back from the ledger as it was recorded, with its place', async () => {
  await using opened = await openEmptyLedger()
  const events = [sampleEvent({ requestMetadata: '{"a":1}', countedGroups: ['leaf', 'root'] }), workspaceKeyEvent()]
  await opened.ledger.write(events)
  const page = await opened.ledger.events(query())
  const [first, second] = events.map(({ node: _node, ...recorded }) => recorded)
  assert.deepEqual(page, {
    events: [
      { ...first, position: 1, sequence: 1 },
      { ...second, position: 2, sequence: null },
    ],
    nextAfter: null,
  })
})

test('pages hold every event of the workspace once, in order, and end where the last one is full', async () => {
  await using opened = await openEmptyLedger()
  const events = sampleEvents(20)
  await opened.ledger.write([...sampleEvents(3, { workspaceId: 'workspace-b' }), ...events])
  const expected = events.map((event) => event.idempotencyKey)
  for (const [limit, pages] of [
    [1, 20],
    [7, 3],
    [10, 2],
    [20, 1],
    [21, 1],
  ] as const) {
    assert.deepEqual(await readAll(opened.ledger, { limit }), { keys: expected, pages }, `limit ${limit}`)
  }
})

test('a window holds what was recorded from its start to before its end', async () => {
  await using opened = await openEmptyLedger()
  const events = Array.from({ length: 60 }, (_, index) => sampleEvent({ recordedAtMs: noonMs + index * 60_000 }))
  await opened.ledger.write(events)
  for (const [first, last] of [
    [0, 60],
    [5, 6],
    [9, 31],
    [30, 30],
  ] as const) {
    const { keys } = await readAll(opened.ledger, {
      startMs: noonMs + first * 60_000,
      endMs: noonMs + last * 60_000,
      limit: 4,
    })
    assert.deepEqual(
      keys,
      events.slice(first, last).map((event) => event.idempotencyKey),
      `${first} to ${last}`,
    )
  }
})

test('a window holds the events that another node brought late', async () => {
  await using opened = await openEmptyLedger()
  const early = sampleEvents(5, { recordedAtMs: noonMs })
  const later = sampleEvents(5, { recordedAtMs: noonMs + 3_600_000 })
  const late = sampleEvents(2, { recordedAtMs: noonMs + 1 })
  for (const batch of [early, later, late]) await opened.ledger.write(batch)
  const { keys } = await readAll(opened.ledger, { startMs: noonMs, endMs: noonMs + 600_000, limit: 3 })
  assert.deepEqual(
    keys,
    [...early, ...late].map((event) => event.idempotencyKey),
  )
})

test('filters by key and by customer hold together', async () => {
  await using opened = await openEmptyLedger()
  const events = ['one', 'two', 'three'].flatMap((apiKeyPrefix) =>
    ['x', 'y'].map((externalEntityId) => sampleEvent({ apiKeyPrefix, externalEntityId })),
  )
  await opened.ledger.write(events)
  const found = async (fields: Partial<EventQuery>) => {
    const { events: shown } = await opened.ledger.events(query(fields))
    return shown.map((event) => `${event.apiKeyPrefix} ${event.externalEntityId}`)
  }
  assert.deepEqual(await found({ apiKeyPrefixes: ['one', 'three'] }), ['one x', 'one y', 'three x', 'three y'])
  assert.deepEqual(await found({ externalEntityIds: ['y'] }), ['one y', 'two y', 'three y'])
  assert.deepEqual(await found({ apiKeyPrefixes: ['two'], externalEntityIds: ['x'] }), ['two x'])
  assert.deepEqual(await found({ apiKeyPrefixes: [] }), [])
})

test('a reader who follows the pages sees every event once while events are being written', async () => {
  await using opened = await openEmptyLedger()
  const batches = Array.from({ length: 15 }, () => sampleEvents(10))
  const seen: string[] = []
  let after = 0
  for (const batch of batches) {
    await opened.ledger.write(batch)
    const page = await opened.ledger.events(query({ afterPosition: after, limit: 7 }))
    seen.push(...page.events.map((event) => event.idempotencyKey))
    after = page.nextAfter ?? after
  }
  for (let next: number | null = after; next !== null; ) {
    const page = await opened.ledger.events(query({ afterPosition: next, limit: 7 }))
    seen.push(...page.events.map((event) => event.idempotencyKey))
    next = page.nextAfter
  }
  assert.deepEqual(
    seen,
    batches.flat().map((event) => event.idempotencyKey),
  )
})

test('a page of what is rare looks through a bounded part of the record and goes on from there', async () => {
  await using opened = await openEmptyLedger()
  const rare = sampleEvent({ externalEntityId: 'rare' })
  const common = sampleEvents(500)
  for (let batch = 0; batch < 410; batch += 1) await opened.ledger.write(common.map(asNew))
  await opened.ledger.write([rare])
  const first = await opened.ledger.events(query({ externalEntityIds: ['rare'] }))
  assert.deepEqual(first, { events: [], nextAfter: 200_000 })
  const { keys, pages } = await readAll(opened.ledger, { externalEntityIds: ['rare'] })
  assert.deepEqual({ keys, pages }, { keys: [rare.idempotencyKey], pages: 2 })
})

function asNew(event: ReturnType<typeof sampleEvent>) {
  return { ...event, idempotencyKey: sampleEvent().idempotencyKey }
}
