import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { BillingEvent } from '../../src/ledger/billing-event.ts'
import { type Journal, openJournal } from '../../src/ledger/journal.ts'
import { readStretch } from '../../src/ledger/journal-stretch.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { type LedgerWriter, ledgerWriter } from '../../src/ledger/ledger-writer.ts'
import { Database } from '../../src/storage/database.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { nodeSqliteDialect } from '../../src/storage/sqlite-dialect.ts'
import { quiet } from '../ledger/quiet-parts.ts'
import { assertSoundRecord, recordOf } from '../ledger/record-of.ts'
import { sampleEvent, workspaceKeyEvent } from '../ledger/sample-event.ts'
import { stretchOf } from '../ledger/stretch-of.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

/** A journal and two nodes' connections to one ledger; and what the journal has acknowledged. */
interface Node {
  folder: string
  journal: Journal
  database: Database
  writer: LedgerWriter
  otherWriter: LedgerWriter
  acknowledged: BillingEvent[]
  shipped: (readonly string[])[]
}

type Step = (node: Node) => Promise<void>

const dayMs = 86_400_000

const billingEvent: fc.Arbitrary<BillingEvent> = fc
  .record({
    workspace: fc.nat({ max: 2 }),
    isBillable: fc.boolean(),
    day: fc.nat({ max: 2 }),
    depth: fc.integer({ min: 1, max: 3 }),
    inputTokens: fc.nat({ max: 1_000 }),
    outputTokens: fc.nat({ max: 1_000 }),
  })
  .map(({ workspace, isBillable, day, depth, inputTokens, outputTokens }) => {
    const fields = {
      workspaceId: `workspace-${workspace}`,
      admittedAtMs: Date.parse('2026-01-15T12:00:00.000Z') + day * dayMs,
      tokens: { inputTokens, outputTokens, cachedInputTokens: 0 },
    }
    if (!isBillable) return workspaceKeyEvent(fields)
    const path = ['leaf', 'middle', 'root'].slice(-depth)
    return sampleEvent({ ...fields, countedGroups: path.map((group) => `${group} of ${workspace}`) })
  })

const append: fc.Arbitrary<Step> = fc.array(billingEvent, { minLength: 1, maxLength: 12 }).map((events) => {
  return async (node) => {
    const fresh = events.map((event) => ({ ...event, idempotencyKey: sampleEvent().idempotencyKey }))
    await Promise.all(fresh.map((event) => node.journal.append(event)))
    node.acknowledged.push(...fresh)
  }
})

const batchSize = fc.integer({ min: 1, max: 20 })

const ship: fc.Arbitrary<Step> = batchSize.map((max) => async (node) => {
  for (const stretch of node.journal.stretches(max).slice(0, 1)) {
    const { reading } = await node.writer.write(stretch)
    node.shipped.push(readStretch(stretch).texts)
    node.journal.remove(stretch, reading)
  }
})

const crashBeforeRemove: fc.Arbitrary<Step> = batchSize.map((max) => async (node) => {
  for (const stretch of node.journal.stretches(max)) await node.writer.write(stretch)
  await reopenJournal(node)
})

const crash: fc.Arbitrary<Step> = fc.constant(reopenJournal)

const repeat: fc.Arbitrary<Step> = fc.nat().map((which) => async (node) => {
  for (const texts of node.shipped.slice(which % Math.max(1, node.shipped.length)).slice(0, 1)) {
    await node.writer.write(stretchOf(node.folder, texts))
  }
})

const twoAtOnce: fc.Arbitrary<Step> = batchSize.map((max) => async (node) => {
  for (const stretch of node.journal.stretches(max)) {
    const reversed = stretchOf(node.folder, readStretch(stretch).texts.toReversed())
    await Promise.all([node.writer.write(stretch), node.otherWriter.write(reversed)])
  }
})

/** Does not wait for the disk: no test cuts the power. */
function openConnection(path: string): Database {
  return new Database(nodeSqliteDialect(openSqliteFile(path, { synchronous: 'normal' })))
}

async function reopenJournal(node: Node): Promise<void> {
  await node.journal[Symbol.asyncDispose]()
  node.journal = openJournalIn(node.folder)
}

/** With small segments, so that there are many. */
function openJournalIn(folder: string): Journal {
  return openJournal({ path: join(folder, 'journal.db'), sync: 'normal', segmentBytesMax: 4_000, ...quiet })
}

test('however appends, shipping, crashes and repeats interleave, each event counts once', async () => {
  const steps = fc.array(fc.oneof(append, ship, crashBeforeRemove, crash, repeat, twoAtOnce), { maxLength: 25 })
  await fc.assert(
    fc.asyncProperty(steps, async (run) => {
      using folder = temporaryFolder()
      const databasePath = join(folder.path, 'tollgate.db')
      await using database = openConnection(databasePath)
      await using other = openConnection(databasePath)
      await database.migrate()
      const node: Node = {
        folder: folder.path,
        journal: openJournalIn(folder.path),
        database,
        writer: ledgerWriter(openLedger({ database })),
        otherWriter: ledgerWriter(openLedger({ database: other })),
        acknowledged: [],
        shipped: [],
      }
      try {
        for (const step of run) {
          await step(node)
          await assertSoundRecord(database)
        }
        for (const stretch of node.journal.stretches(10_000)) await node.writer.write(stretch)
      } finally {
        await node.journal[Symbol.asyncDispose]()
      }
      await assertSoundRecord(database)
      const recorded = (await recordOf(database)).map((row) => row.idempotency_key)
      assert.deepEqual(recorded.sort(), node.acknowledged.map((event) => event.idempotencyKey).sort())
    }),
    { numRuns: 40 },
  )
})
