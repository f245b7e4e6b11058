import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
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
  depth: number
}

interface Appending extends AsyncDisposable {
  pid: number
  append(): Promise<Round>
  remove(): Promise<unknown>
  loseFiles(): Promise<unknown>
}

function startAppending(folder: string): Appending {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, 'appending-process.ts'), folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const { stdin, stdout, pid } = child
  assert.ok(stdin !== null && stdout !== null && pid !== undefined)
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  const answerTo = async (command: string) => {
    stdin.write(`${command}\n`)
    const { value } = await lines.next()
    return JSON.parse(value ?? '')
  }
  return {
    pid,
    append: () => answerTo('append'),
    remove: () => answerTo('remove'),
    loseFiles: () => answerTo('lose-files'),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

/** The kernel refuses writes beyond a file size, as a full disk does; this sets and lifts that limit from outside. */
function limitFileSize(pid: number, bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:unlimited`])
}

async function keptIn(folder: string): Promise<string[]> {
  await using journal = openJournal({ path: join(folder, 'journal.db'), sync: 'normal', ...quiet })
  return journal.read(1_000).map(({ text }) => eventOfText(text).idempotencyKey)
}

const linuxOnly = { skip: process.platform !== 'linux' && 'needs prlimit and /proc' }

test(
  'a full disk refuses events by name and keeps the earlier ones; with room, events are taken again',
  linuxOnly,
  async () => {
    using folder = temporaryFolder()
    const rounds: Round[] = []
    {
      await using appending = startAppending(folder.path)
      rounds.push(await appending.append())
      limitFileSize(appending.pid, 150_000)
      rounds.push(await appending.append(), await appending.append())
      limitFileSize(appending.pid, 'unlimited')
      rounds.push(await appending.append())
    }
    const [before, during, stillFull, after] = rounds
    assert.equal(before?.acknowledged.length, 100)
    assert.ok(during && during.refusals.length > 0)
    assert.deepEqual(stillFull?.refusals, Array(100).fill('JournalError'))
    assert.equal(after?.acknowledged.length, 100)
    assert.deepEqual(
      await keptIn(folder.path),
      rounds.flatMap((round) => round.acknowledged),
    )
  },
)

test('a journal whose files went away is opened again, and goes on where it was', linuxOnly, async () => {
  using folder = temporaryFolder()
  const { acknowledged, refusals, depth } = await (async () => {
    await using appending = startAppending(folder.path)
    await appending.append()
    assert.deepEqual(await appending.remove(), { depth: 0 })
    assert.deepEqual(await appending.loseFiles(), { lost: 2 })
    return await appending.append()
  })()
  assert.deepEqual(refusals, ['JournalError'])
  assert.equal(depth, acknowledged.length)
  assert.deepEqual(await keptIn(folder.path), acknowledged)
})
