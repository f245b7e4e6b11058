import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { BillingEvent, TokenCounts } from '../../src/ledger/billing-event.ts'
import { eventText } from '../../src/ledger/event-text.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { openLedgerThread } from '../../src/ledger/ledger-thread.ts'
import { type LedgerWriter, ledgerWriter } from '../../src/ledger/ledger-writer.ts'
import { verifyLedger } from '../../src/ledger/verify.ts'
import type { Database } from '../../src/storage/database.ts'
import { embeddedDatabasePath } from '../../src/storage/open-database.ts'
import { dayTokensMax, tokensMax } from '../../src/token-bounds.ts'
import { engine, openTestDatabase } from '../support/database-backends.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { assertSoundRecord, dailyUsageOf, recordOf } from './record-of.ts'
import { sampleEvent, sampleEvents, workspaceKeyEvent } from './sample-event.ts'
import { stretchOf } from './stretch-of.ts'

interface Written extends AsyncDisposable {
  database: Database
  write(events: readonly BillingEvent[]): Promise<string[]>
}

interface TestedWriter {
  name: string
  open: (dataDir: string, database: Database) => LedgerWriter & Partial<AsyncDisposable>
}

const thisThread: TestedWriter = {
  name: 'this thread',
  open: (_dataDir, database) => ledgerWriter(openLedger({ database })),
}
const ownThread: TestedWriter = {
  name: 'a thread of its own',
  open: (dataDir) => openLedgerThread({ path: embeddedDatabasePath(dataDir) }),
}

for (const { name, open } of engine === 'sqlite' ? [thisThread, ownThread] : [thisThread]) {
  describe(`the ledger, written from ${name}`, () => {
    async function openWritten(): Promise<Written> {
      await using opened = new AsyncDisposableStack()
      const folder = opened.use(temporaryFolder())
      const database = opened.use(await openTestDatabase(folder.path))
      const writer = open(folder.path, database)
      opened.defer(() => writer[Symbol.asyncDispose]?.())
      const parts = opened.move()
      return {
        database,
        async write(events) {
          const { workspaceIds } = await writer.write(stretchOf(folder.path, events.map(eventText)))
          return workspaceIds
        },
        [Symbol.asyncDispose]: () => parts.disposeAsync(),
      }
    }

    test(`every field of an event is recorded (${name})`, async () => {
      await using written = await openWritten()
      await written.write([
        sampleEvent({
          idempotencyKey: '01KAJ0000000000000000000AA',
          requestId: 'request-1',
          recordedAtMs: 1_700_000_000_500,
          admittedAtMs: 1_700_000_000_000,
          requestMetadata: '{"run":7}',
          groupId: 'group-a',
          countedGroups: ['group-a', 'group-root'],
          outcome: 'client_closed',
          usageSource: 'estimated',
        }),
      ])
      const rows = await recordOf(written.database)
      assert.deepEqual(
        rows.map((row) => ({ ...row })),
        [
          {
            idempotency_key: '01KAJ0000000000000000000AA',
            workspace_id: 'workspace-a',
            position: 1,
            sequence: 1,
            request_id: 'request-1',
            recorded_at: 1_700_000_000_500,
            admitted_at: 1_700_000_000_000,
            request_metadata: '{"run":7}',
            model_slug: 'acme/large',
            api_key_prefix: 'tk_0a1b2c',
            group_id: 'group-a',
            external_entity_id: 'customer-a',
            counted_groups: 'group-a/group-root',
            input_tokens: 12,
            output_tokens: 5,
            cached_input_tokens: 3,
            outcome: 'client_closed',
            usage_source: 'estimated',
          },
        ],
      )
    })

    test(`sequences have no gap in any workspace, however their events are mixed (${name})`, async () => {
      await using written = await openWritten()
      const mixed = Array.from({ length: 700 }, (_, index) => {
        const workspaceId = `workspace-${index % 3}`
        return index % 4 === 0 ? workspaceKeyEvent({ workspaceId }) : sampleEvent({ workspaceId })
      })
      await written.write(mixed.slice(0, 1))
      await written.write(mixed.slice(1, 200))
      await written.write(mixed.slice(200))
      const record = await recordOf(written.database)
      assert.equal(record.length, 700)
      await assertSoundRecord(written.database)
      const ofOne = mixed.filter((event) => event.workspaceId === 'workspace-1')
      assert.deepEqual(
        record.filter((row) => row.workspace_id === 'workspace-1').map((row) => row.idempotency_key),
        ofOne.map((event) => event.idempotencyKey),
      )
    })

    test(`a repeated batch changes neither the record nor the usage nor the next place (${name})`, async () => {
      await using written = await openWritten()
      const batch = [...sampleEvents(5), workspaceKeyEvent(), sampleEvent({ workspaceId: 'workspace-b' })]
      assert.deepEqual(new Set(await written.write(batch)), new Set(['workspace-a', 'workspace-b']))
      const record = await recordOf(written.database)
      const usage = await dailyUsageOf(written.database)
      assert.deepEqual(await written.write(batch), [])
      assert.deepEqual(await recordOf(written.database), record)
      assert.deepEqual(await dailyUsageOf(written.database), usage)
      assert.deepEqual(await written.write([...batch, sampleEvent()]), ['workspace-a'])
      assert.equal((await recordOf(written.database)).length, 8)
      await assertSoundRecord(written.database)
    })

    test(`an event that stands twice in one batch is recorded once (${name})`, async () => {
      await using written = await openWritten()
      const event = sampleEvent()
      await written.write([event, sampleEvent(), event])
      assert.equal((await recordOf(written.database)).length, 2)
      await assertSoundRecord(written.database)
    })

    test(`a batch that cannot be written whole is not written at all (${name})`, async () => {
      await using written = await openWritten()
      await written.write(sampleEvents(2))
      const usage = await dailyUsageOf(written.database)
      const taken = { ...sampleEvent(), position: 3 }
      await written.database.queries
        .updateTable('ledger_heads')
        .set({ position: 1 })
        .where('workspace_id', '=', 'workspace-a')
        .execute()
      await assert.rejects(written.write([sampleEvent({ workspaceId: 'workspace-b' }), taken]), /unique/i)
      assert.equal((await recordOf(written.database)).length, 2)
      assert.deepEqual(await dailyUsageOf(written.database), usage)
      const heads = await written.database.queries.selectFrom('ledger_heads').select('workspace_id').execute()
      assert.deepEqual(
        heads.map((head) => head.workspace_id),
        ['workspace-a'],
      )
    })

    test(`usage counts towards the UTC day of admission, once for each counted group (${name})`, async () => {
      await using written = await openWritten()
      const lateEvening = Date.parse('2026-01-15T23:59:59.999Z')
      const nextDay = Date.parse('2026-01-16T00:00:00.000Z')
      const countedGroups = ['leaf', 'root']
      await written.write([
        sampleEvent({ admittedAtMs: lateEvening, recordedAtMs: nextDay, countedGroups }),
        sampleEvent({ admittedAtMs: lateEvening, recordedAtMs: nextDay, countedGroups: ['root'] }),
        sampleEvent({ admittedAtMs: nextDay, recordedAtMs: nextDay, countedGroups, modelSlug: 'acme/small' }),
      ])
      await written.write([sampleEvent({ admittedAtMs: lateEvening, countedGroups: ['root'] })])
      const usage = await dailyUsageOf(written.database)
      assert.deepEqual(
        usage.map((row) => [row.day, row.group_id, row.slug, row.requests, row.input_tokens, row.output_tokens]),
        [
          ['2026-01-15', 'leaf', 'acme/large', 1, 12, 5],
          ['2026-01-15', 'root', 'acme/large', 3, 36, 15],
          ['2026-01-16', 'leaf', 'acme/small', 1, 12, 5],
          ['2026-01-16', 'root', 'acme/small', 1, 12, 5],
        ],
      )
    })
  })
}

test('two processes that write the same batches at once record each event once', async () => {
  using folder = temporaryFolder()
  await using one = await openTestDatabase(folder.path)
  await using other = await openTestDatabase(folder.path)
  const batches = Array.from({ length: 20 }, (_, index) => [
    ...sampleEvents(5, { workspaceId: `workspace-${index % 2}` }),
    ...sampleEvents(5, { workspaceId: 'workspace-0' }),
  ])
  const ledgers = [openLedger({ database: one }), openLedger({ database: other })]
  await Promise.all(ledgers.flatMap((ledger) => batches.map((batch) => ledger.write(batch))))
  assert.equal((await recordOf(one)).length, 200)
  await assertSoundRecord(one)
})

test('the usage of a day comes in pages that hold every group and slug once', async () => {
  using folder = temporaryFolder()
  await using database = await openTestDatabase(folder.path)
  const ledger = openLedger({ database })
  const admittedAtMs = Date.parse('2026-01-15T08:00:00.000Z')
  const perSlug = ['acme/large', 'acme/medium', 'acme/small'].flatMap((modelSlug) =>
    Array.from({ length: 500 }, (_, group) =>
      sampleEvent({ admittedAtMs, countedGroups: [`group-${group}`], modelSlug }),
    ),
  )
  await ledger.write(perSlug)
  await ledger.write([sampleEvent({ admittedAtMs: admittedAtMs - 86_400_000, countedGroups: ['group-0'] })])

  const pages = await Array.fromAsync(ledger.usageOfDay('2026-01-15'))
  assert.deepEqual(
    pages.map((page) => page.length),
    [1_000, 500],
  )
  const rows = pages.flat()
  assert.equal(new Set(rows.map(({ owner, slug }) => `${owner} ${slug}`)).size, 1_500)
  assert.ok(rows.every(({ requests, tokens }) => requests === 1 && tokens === 17))
})

/** A line of the journal as an earlier version wrote it: with whatever upstream had reported. */
function unboundedText(event: BillingEvent, { inputTokens, outputTokens, cachedInputTokens }: TokenCounts): string {
  const fields = JSON.parse(eventText(event))
  return JSON.stringify(fields.with(12, inputTokens).with(13, outputTokens).with(14, cachedInputTokens))
}

test('counts beyond all bounds in the journal of an earlier version hold up nobody, and are no longer said to be measured', async () => {
  using folder = temporaryFolder()
  await using database = await openTestDatabase(folder.path)
  const writer = ledgerWriter(openLedger({ database }))
  const huge = { inputTokens: 2 ** 53 - 1, outputTokens: 7, cachedInputTokens: 2 ** 53 - 1 }
  for (let batch = 0; batch < 3; batch += 1) {
    const texts = sampleEvents(99).map((event) => unboundedText(event, huge))
    await writer.write(stretchOf(folder.path, [...texts, eventText(sampleEvent({ workspaceId: 'workspace-b' }))]))
  }
  const rows = await recordOf(database)
  assert.equal(rows.length, 300)
  for (const { workspace_id, input_tokens, output_tokens, cached_input_tokens, usage_source } of rows) {
    assert.deepEqual(
      [input_tokens, output_tokens, cached_input_tokens, usage_source],
      workspace_id === 'workspace-a' ? [tokensMax, 7, tokensMax, 'estimated'] : [12, 5, 3, 'upstream'],
    )
  }
  await assertSoundRecord(database)
})

test('the usage of a day stands still before it can no longer be read, and verifies', async () => {
  using folder = temporaryFolder()
  await using database = await openTestDatabase(folder.path)
  const ledger = openLedger({ database })
  const tokens = { inputTokens: tokensMax, outputTokens: tokensMax, cachedInputTokens: tokensMax }
  await ledger.write([sampleEvent({ tokens })])
  const almost = dayTokensMax - tokensMax / 2
  const all = { input_tokens: almost, output_tokens: almost, cached_input_tokens: almost }
  await database.queries.updateTable('usage_daily').set(all).execute()
  await database.queries.updateTable('events').set(all).execute()
  await ledger.write([sampleEvent({ tokens }), sampleEvent({ tokens })])
  const [[usage] = []] = await Array.fromAsync(ledger.usageOfDay('2026-01-15'))
  assert.equal(usage?.requests, 3)
  assert.equal(usage.tokens, 2 * dayTokensMax)
  assert.ok(Number.isSafeInteger(usage.tokens))
  assert.deepEqual(await Array.fromAsync(verifyLedger(database.queries)), [])
})
