import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { openJournal } from '../../src/ledger/journal.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { ledgerWriter } from '../../src/ledger/ledger-writer.ts'
import { startShipper } from '../../src/ledger/shipper.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { quiet } from './quiet-parts.ts'
import { assertSoundRecord, recordOf } from './record-of.ts'

/**
 * Runs a process that records events in `folder`, kills it once it has acknowledged `killAfter` of them (or lets it
 * kill itself), and returns the idempotency keys of all that it acknowledged.
 */
async function acknowledgedBeforeKill(
  folder: string,
  { end, killAfter }: { end: string; killAfter: number },
): Promise<string[]> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'recording-process.ts'), folder, end], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  let output = ''
  let lines = 0
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    lines += text.split('\n').length - 1
    if (lines >= killAfter) child.kill('SIGKILL')
  })
  const [, signal] = await closed
  assert.equal(signal, 'SIGKILL')
  // What follows the last line end is a line that the kill cut off.
  return output.split('\n').slice(0, -1)
}

/** What the next start does: opens both and ships what the journal still holds. */
async function shipTheRest(folder: string): Promise<{ waiting: number; recordedBefore: number; keys: string[] }> {
  await using database = await openTestDatabase(folder)
  const recordedBefore = (await recordOf(database)).length
  await using journal = openJournal({ path: join(folder, 'journal.db'), sync: 'normal', ...quiet })
  const waiting = journal.depth()
  const ledger = ledgerWriter(openLedger({ database }))
  await using shipper = startShipper({ journal, ledger, clock: systemClock, ...quiet })
  await shipper.flush()
  assert.equal(journal.depth(), 0)
  await assertSoundRecord(database)
  const keys = (await recordOf(database)).map((row) => row.idempotency_key)
  return { waiting, recordedBefore, keys }
}

function assertHasAll(recorded: readonly string[], acknowledged: readonly string[]): void {
  const known = new Set(recorded)
  assert.equal(known.size, recorded.length)
  assert.deepEqual(
    acknowledged.filter((key) => !known.has(key)),
    [],
  )
}

test('a process killed again and again, at any moment, loses and doubles no event it acknowledged', async () => {
  using folder = temporaryFolder()
  const acknowledged: string[] = []
  let waitingAtDeath = 0
  for (let kill = 0; kill < 12; kill += 1) {
    const killAfter = 1 + Math.floor(Math.random() ** 2 * 3_000)
    acknowledged.push(...(await acknowledgedBeforeKill(folder.path, { end: 'whenever', killAfter })))
    // Every third time nobody ships between two kills: the next process finds the backlog.
    if (kill % 3 === 2) continue
    const { waiting, keys } = await shipTheRest(folder.path)
    waitingAtDeath += waiting
    assertHasAll(keys, acknowledged)
  }
  const { keys } = await shipTheRest(folder.path)
  assertHasAll(keys, acknowledged)
  assert.ok(waitingAtDeath > 0, 'no kill hit an event between the journal and the ledger')
})

test("a process killed within the ledger's transaction leaves nothing of it, and the events in the journal", async () => {
  using folder = temporaryFolder()
  const end = 'before-ledger-commit'
  const acknowledged = await acknowledgedBeforeKill(folder.path, { end, killAfter: Number.POSITIVE_INFINITY })
  const { recordedBefore, waiting, keys } = await shipTheRest(folder.path)
  assert.equal(recordedBefore, 0)
  assert.equal(waiting, keys.length)
  assertHasAll(keys, acknowledged)
})

test('a process killed after the ledger has a batch and before the journal removes it doubles nothing', async () => {
  using folder = temporaryFolder()
  const end = 'before-journal-remove'
  const acknowledged = await acknowledgedBeforeKill(folder.path, { end, killAfter: Number.POSITIVE_INFINITY })
  const { recordedBefore, waiting, keys } = await shipTheRest(folder.path)
  assert.ok(recordedBefore > 0)
  assert.equal(waiting, keys.length, 'the journal still had the whole batch')
  assertHasAll(keys, acknowledged)
})
