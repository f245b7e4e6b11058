import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { eventOfText } from '../../src/ledger/event-text.ts'
import { openJournal } from '../../src/ledger/journal.ts'
import { quiet } from './quiet-parts.ts'
import { temporaryFolder } from './temporary-folder.ts'

interface Round {
  acknowledged: string[]
  refusals: string[]
}

/** The kernel refuses writes beyond a file size, as a full disk does; this lifts and sets that limit from outside. */
function limitFileSize(pid: number, bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:unlimited`])
}

test('a full disk refuses events by name and keeps the earlier ones; once there is room, events are taken again', {
  skip: process.platform !== 'linux' && 'prlimit is a Linux command',
}, async () => {
  using folder = temporaryFolder()
  const child = spawn(process.execPath, [join(import.meta.dirname, 'appending-process.ts'), folder.path], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const round = async (): Promise<Round> => {
    child.stdin.write('again\n')
    const { value } = await lines.next()
    return JSON.parse(value ?? '')
  }
  const pid = child.pid ?? assert.fail('the process did not start')

  const before = await round()
  limitFileSize(pid, 150_000)
  const during = await round()
  const stillFull = await round()
  limitFileSize(pid, 'unlimited')
  const after = await round()
  child.kill('SIGKILL')
  await once(child, 'exit')

  assert.equal(before.acknowledged.length, 100)
  assert.ok(during.refusals.length > 0)
  assert.equal(stillFull.refusals.length, 100)
  assert.deepEqual(new Set([...during.refusals, ...stillFull.refusals]), new Set(['JournalError']))
  assert.equal(after.acknowledged.length, 100)

  await using journal = openJournal({ path: join(folder.path, 'journal.db'), sync: 'normal', ...quiet })
  const kept = journal.read(1_000).map(({ text }) => eventOfText(text).idempotencyKey)
  assert.deepEqual(kept, [...before.acknowledged, ...during.acknowledged, ...after.acknowledged])
})
