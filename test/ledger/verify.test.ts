import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import { readConfig } from '../../src/config.ts'
import type { BillingEvent } from '../../src/ledger/billing-event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { removeExpired, startRetention } from '../../src/ledger/retention.ts'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { openLog } from '../../src/log.ts'
import { openMetrics } from '../../src/metrics.ts'
import type { Database } from '../../src/storage/database.ts'
import { openRecord } from '../../src/storage/open-database.ts'
import { databaseSettings, openTestDatabase } from '../support/database-backends.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { sampleEvent, sampleEvents } from './sample-event.ts'

const main = join(import.meta.dirname, '../../src/main.ts')
const dayMs = 86_400_000
const noonMs = Date.parse('2026-01-15T12:00:00.000Z')

async function withLedger(work: (parts: { database: Database; dataDir: string }) => Promise<void>): Promise<void> {
  using folder = temporaryFolder()
  await using database = await openTestDatabase(folder.path)
  await openLedger({ database }).write(
    Array.from({ length: 60 }, (_, index) => {
      const atMs = noonMs + (index % 3) * dayMs
      const fields: Partial<BillingEvent> = { recordedAtMs: atMs, admittedAtMs: atMs }
      if (index % 5 === 0) Object.assign(fields, { workspaceId: 'workspace-b' })
      if (index % 7 === 0) Object.assign(fields, { groupId: null, externalEntityId: null, countedGroups: [] })
      return sampleEvent(fields)
    }),
  )
  await work({ database, dataDir: folder.path })
}

/** Runs `tollgate ledger`, beside whoever has the database open. */
async function tollgate(dataDir: string, ...words: string[]): Promise<{ stdout: string }> {
  const env = { PATH: process.env['PATH'], ...(await databaseSettings(dataDir)) }
  return promisify(execFile)(process.execPath, [main, 'ledger', ...words, '--data-dir', dataDir], { env })
}

const disagreements = (database: Database) => Array.fromAsync(verifyLedger(database.queries))

describe('verifying the ledger', () => {
  test('a sound record has nothing to report', async () => {
    await withLedger(async ({ database }) => assert.deepEqual(await disagreements(database), []))
  })

  const corruptions: [name: string, change: ReturnType<typeof sql>, report: RegExp][] = [
    [
      'a removed event',
      sql`delete from events where workspace_id = 'workspace-a' and position = 3`,
      /position of an event|sequence at/,
    ],
    [
      'an event with other token counts',
      sql`update events set input_tokens = input_tokens + 1 where workspace_id = 'workspace-a' and position = 2`,
      /usage of/,
    ],
    ['a doubled day', sql`update usage_daily set requests = requests * 2`, /usage of/],
    ['a removed day', sql`delete from usage_daily where day = '2026-01-16'`, /usage of/],
    [
      'a gap in the sequence',
      sql`update events set sequence = sequence + 1 where sequence > 3`,
      /sequence at position/,
    ],
    ['a head that has run ahead', sql`update ledger_heads set position = position + 1`, /head, position/],
    ['a head whose sequence has run ahead', sql`update ledger_heads set sequence = sequence + 1`, /head, sequence/],
    ['a head that is gone', sql`delete from ledger_heads where workspace_id = 'workspace-b'`, /^head$/],
  ]
  for (const [name, change, report] of corruptions) {
    test(`${name} is reported`, async () => {
      await withLedger(async ({ database }) => {
        await change.execute(database.queries)
        const found = await disagreements(database)
        assert.ok(
          found.some(({ what }) => report.test(what)),
          JSON.stringify(found),
        )
      })
    })
  }

  test('beside a server that writes, nothing of what it writes shows', async () => {
    await withLedger(async ({ database, dataDir }) => {
      await using record = await openRecord(
        readConfig({ TOLLGATE_DATA_DIR: dataDir, ...(await databaseSettings(dataDir)) }),
      )
      const ledger = openLedger({ database })
      let writes = 0
      let isOver = false
      const writing = (async () => {
        for (; !isOver; writes += 1) await ledger.write(sampleEvents(20))
      })()
      for (let round = 0; round < 10; round += 1) {
        const before = writes
        const found = await record.snapshot((queries) => Array.fromAsync(verifyLedger(queries)))
        assert.deepEqual(found, [])
        await until(() => writes > before)
      }
      isOver = true
      await writing
    })
  })

  test('leaves a database of an earlier version as it is, and says what to do', async () => {
    await withLedger(async ({ database, dataDir }) => {
      const { queries } = database
      await sql`delete from kysely_migration where name = '0009-master-key'`.execute(queries)
      for (const words of [['verify'], ['export', '--from', '2020-01-01']]) {
        await assert.rejects(tollgate(dataDir, ...words), /of an earlier version of Tollgate\. Start the server once/)
      }
      const applied = await sql<{ name: string }>`select name from kysely_migration`.execute(queries)
      assert.ok(!applied.rows.some(({ name }) => name === '0009-master-key'))
    })
  })

  test('`tollgate ledger verify` prints a table and exits with 1 if there is a disagreement, with 0 if not', async () => {
    await withLedger(async ({ database, dataDir }) => {
      const run = () => tollgate(dataDir, 'verify')
      assert.match((await run()).stdout, /agrees/)
      await sql`update usage_daily set requests = requests + 1 where day = '2026-01-15'`.execute(database.queries)
      await assert.rejects(run(), (error: Error & { code?: number; stdout?: string }) => {
        assert.equal(error.code, 1)
        assert.match(error.stdout ?? '', /^WORKSPACE +WHAT +EXPECTED +FOUND\n[\s\S]*usage of group of workspace-a/)
        return true
      })
    })
  })
})

describe('retention', () => {
  const sweep = (database: Database, nowMs: number) =>
    removeExpired({
      database,
      metrics: openMetrics(),
      beforeMs: nowMs - 10 * dayMs,
      batchMax: 7,
      mayGoOn: () => true,
    })
  const count = async (database: Database) =>
    (await database.queries.selectFrom('events').select('position').execute()).length

  test('removes what is older, in batches, and leaves a record that still verifies and goes on', async () => {
    await withLedger(async ({ database }) => {
      const ledger = openLedger({ database })
      await sweep(database, noonMs + 9 * dayMs)
      assert.equal(await count(database), 60)
      const usage = await database.queries.selectFrom('usage_daily').selectAll().execute()

      await sweep(database, noonMs + 20 * dayMs)
      assert.equal(await count(database), 0)
      assert.deepEqual(await database.queries.selectFrom('usage_daily').selectAll().execute(), usage)
      assert.deepEqual(await disagreements(database), [])

      const laterMs = noonMs + 20 * dayMs
      await ledger.write([sampleEvent({ recordedAtMs: laterMs, admittedAtMs: laterMs })])
      assert.deepEqual(await disagreements(database), [])
      await sql`update events set sequence = sequence + 1`.execute(database.queries)
      assert.notDeepEqual(await disagreements(database), [])
    })
  })

  test('keeps every event that a webhook has still to deliver', async () => {
    await withLedger(async ({ database }) => {
      await database.queries
        .insertInto('workspaces')
        .values({
          id: 'workspace-a',
          name: 'a',
          onboarded: 1,
          org_prefixes: '[]',
          key_prefix: 'tk_',
          register_public_key: null,
          created_at: noonMs,
        })
        .execute()
      await database.queries
        .insertInto('webhooks')
        .values({
          id: 'webhook',
          workspace_id: 'workspace-a',
          url: 'http://127.0.0.1:1/',
          retry_window_seconds: 15,
          sealed_secret: '',
          sealed_previous_secret: null,
          previous_secret_until: null,
          position: 20,
          sequence: null,
          created_at: noonMs,
          updated_at: noonMs,
          deleted_at: null,
        })
        .execute()
      await sweep(database, noonMs + 30 * dayMs)
      const left = await database.queries
        .selectFrom('events')
        .select((eb) => eb.fn.min('position').as('first'))
        .where('workspace_id', '=', 'workspace-a')
        .executeTakeFirst()
      assert.equal(Number(left?.first), 21)
      assert.deepEqual(await disagreements(database), [])
    })
  })
})

describe('retention by a clock that is set wrong', () => {
  async function withRetention(
    { startsAtMs }: { startsAtMs: number },
    work: (parts: {
      database: Database
      clock: ManualClock
      removed: () => number
      sweep: () => Promise<void>
    }) => Promise<void>,
  ): Promise<void> {
    using folder = temporaryFolder()
    await using database = await openTestDatabase(folder.path)
    const days = [0, 1, 2].flatMap((day) => sampleEvents(20, { recordedAtMs: noonMs + day * dayMs }))
    await openLedger({ database }).write(days)
    const clock = new ManualClock(startsAtMs)
    let removed = 0
    const metrics = {
      eventsRemoved(events: number) {
        removed += events
      },
    }
    const log = openLog({ level: 'silent' })
    await using _retention = startRetention({ database, clock, log, metrics, retentionDays: 10, batchMax: 100 })
    // The record has been read before this query is answered.
    await database.queries.selectFrom('ledger_heads').selectAll().execute()
    const sweep = async () => {
      clock.advance(clock.nextTimerMs() ?? 0)
      await until(() => clock.nextTimerMs() !== null)
    }
    await work({ database, clock, removed: () => removed, sweep })
  }

  test('removes nothing that is not old, even when events are recorded by that clock', async () => {
    await withRetention({ startsAtMs: noonMs + 3 * dayMs }, async ({ database, clock, removed, sweep }) => {
      clock.jumpTo(clock.now() + 4_000 * dayMs)
      await openLedger({ database }).write([sampleEvent({ recordedAtMs: clock.now(), admittedAtMs: clock.now() })])
      await sweep()
      assert.equal(removed(), 0)
      clock.jumpTo(noonMs + 3 * dayMs)
      await sweep()
      assert.equal(removed(), 0)
    })
  })

  test('removes nothing that is not old when it was ahead at the start already', async () => {
    await withRetention({ startsAtMs: noonMs + 4_000 * dayMs }, async ({ clock, removed, sweep }) => {
      await sweep()
      assert.equal(removed(), 0)
      clock.advance(7 * dayMs)
      await until(() => removed() === 20)
    })
  })

  test('removes what is old by a clock that is right, an hour after it has become so', async () => {
    await withRetention({ startsAtMs: noonMs + 2 * dayMs }, async ({ clock, removed, sweep }) => {
      clock.advance(8 * dayMs - 3_600_000)
      await until(() => clock.nextTimerMs() !== null)
      assert.equal(removed(), 0)
      await sweep()
      await sweep()
      assert.equal(removed(), 20)
    })
  })
})

describe('exporting the ledger', () => {
  test('`tollgate ledger export` writes one JSON line for each event of the span, by wire names', async () => {
    await withLedger(async ({ dataDir }) => {
      const span = ['--from', '2026-01-15T00:00:00Z', '--to', '2026-01-16T00:00:00Z']
      const { stdout } = await tollgate(dataDir, 'export', ...span)
      const events = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
      assert.equal(events.length, 20)
      assert.ok(
        events.every(
          ({ timestamp, idempotencyKey, tokens }) =>
            timestamp.startsWith('2026-01-15') && idempotencyKey && tokens.inputTokens >= 0,
        ),
      )
    })
  })

  test('CSV is quoted where a field needs it', async () => {
    using folder = temporaryFolder()
    {
      await using database = await openTestDatabase(folder.path)
      await openLedger({ database }).write([
        sampleEvent({ requestMetadata: '{"note":"a, \\"b\\"\\nc"}', externalEntityId: 'Acme, "Inc"' }),
      ])
    }
    const { stdout } = await tollgate(folder.path, 'export', '--from', '2020-01-01', '--format', 'csv')
    const [heading, line] = stdout.split('\r\n')
    assert.match(heading ?? '', /^workspaceId,idempotencyKey,sequence,timestamp/)
    assert.ok(line?.includes('"Acme, ""Inc"""'))
    assert.ok(line?.endsWith('"{""note"":""a, \\""b\\""\\nc""}"'))
  })
})
