import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventOfText, eventText } from '../../src/ledger/event-text.ts'
import { JournalError, openJournal } from '../../src/ledger/journal.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { takeTexts, textsIn } from './journal-texts.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvent } from './sample-event.ts'
import { type Round, startAppending } from './start-appending.ts'

/**
 * The kernel refuses writes beyond a file size, as a full disk does, and descriptors; this sets and lifts that limit
 * from outside.
 */
function limit(pid: number, resource: 'fsize' | 'nofile', most: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(pid), `--${resource}=${most}:`])
}

async function keptIn(folder: string): Promise<string[]> {
  await using journal = openJournal({ path: join(folder, 'journal.db'), sync: 'normal', ...quiet })
  return textsIn(journal).map((text) => eventOfText(text).idempotencyKey)
}

const linuxOnly = { skip: process.platform !== 'linux' && 'needs prlimit and /proc' }
const rootOnly = { skip: process.getuid?.() !== 0 && 'needs to mount a file system' }

test(
  'a full disk refuses events by name and keeps the earlier ones; with room, events are taken again',
  linuxOnly,
  async () => {
    using folder = temporaryFolder()
    const segment = join(folder.path, 'journal.00000001.log')
    const rounds: Round[] = []
    {
      await using appending = startAppending(folder.path)
      rounds.push(await appending.append())
      // Room for one event, and a part of the next.
      limit(appending.pid, 'fsize', statSync(segment).size + 4_000)
      rounds.push(await appending.append())
      const bytes = statSync(segment).size
      rounds.push(await appending.append())
      assert.equal(statSync(segment).size, bytes)
      assert.match(readFileSync(segment, 'utf8'), /\]\n\n$/)
      limit(appending.pid, 'fsize', 'unlimited')
      rounds.push(await appending.append())
    }
    const [before, during, stillFull, after] = rounds
    assert.equal(before?.acknowledged.length, 100)
    assert.equal(during?.acknowledged.length, 1)
    assert.deepEqual(stillFull?.refusals, Array(100).fill('JournalError'))
    assert.equal(after?.acknowledged.length, 100)
    assert.deepEqual(
      await keptIn(folder.path),
      rounds.flatMap((round) => round.acknowledged),
    )
  },
)

test('events are removed from a journal on a full disk, and do not come back later', linuxOnly, async () => {
  using folder = temporaryFolder()
  const last = await (async () => {
    await using appending = startAppending(folder.path)
    await appending.append()
    limit(appending.pid, 'fsize', statSync(join(folder.path, 'journal.00000001.log')).size)
    assert.deepEqual(await appending.remove(), { depth: 0 })
    limit(appending.pid, 'fsize', 'unlimited')
    await appending.append()
    assert.deepEqual(await appending.remove(), { depth: 0 })
    return await appending.append()
  })()
  assert.deepEqual(await keptIn(folder.path), last.acknowledged)
})

test('a disk that the journal has filled has room again once the ledger has the events', rootOnly, async () => {
  using disk = smallDisk({ kilobytes: 512 })
  const path = join(disk.path, 'journal.db')
  const kept: string[] = []
  {
    await using journal = openJournal({ path, sync: 'full', segmentBytesMax: 32 * 1024, ...quiet })
    const append = async () => {
      const event = sampleEvent({ requestMetadata: 'x'.repeat(3_000) })
      const isTaken = await journal.append(event).then(() => true, isRefusal)
      if (isTaken) kept.push(eventText(event))
      return isTaken
    }
    while (await append());
    for (let tries = 0; tries < 5; tries += 1) assert.equal(await append(), false)
    assert.ok(kept.length > 100)
    assert.deepEqual(textsIn(journal), kept)

    const segments = readdirSync(disk.path).length
    takeTexts(journal, kept.length - 20)
    kept.splice(0, kept.length - 20)
    await until(() => readdirSync(disk.path).length < segments - 5)
    for (let event = 0; event < 60; event += 1) assert.ok(await append())
    assert.deepEqual(textsIn(journal), kept)
  }
  await using journal = openJournal({ path, sync: 'full', ...quiet })
  assert.deepEqual(textsIn(journal), kept)
})

function isRefusal(error: unknown): false {
  assert.ok(error instanceof JournalError)
  return false
}

/** A file system of its own, in memory. */
function smallDisk({ kilobytes }: { kilobytes: number }): Disposable & { path: string } {
  const folder = temporaryFolder()
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k,mode=0700`, 'tmpfs', folder.path])
  return {
    path: folder.path,
    [Symbol.dispose]() {
      execFileSync('umount', ['-l', folder.path])
      folder[Symbol.dispose]()
    },
  }
}

test('a journal whose files went away goes on in a new one, whatever has become of the old', linuxOnly, async () => {
  using folder = temporaryFolder()
  const [earlier, later] = await (async () => {
    await using appending = startAppending(folder.path)
    await appending.append()
    assert.deepEqual(await appending.remove(), { depth: 0 })
    const kept = await appending.append()
    assert.deepEqual(await appending.loseFiles(), { lost: 3 })
    appendFileSync(join(folder.path, 'journal.00000001.log'), '0a1b2c3d [2,"torn')
    return [kept, await appending.append()]
  })()
  assert.deepEqual(later?.refusals, ['JournalError'])
  assert.equal(later?.depth, 199)
  assert.deepEqual(await keptIn(folder.path), [...(earlier?.acknowledged ?? []), ...(later?.acknowledged ?? [])])
})

test('a process without a descriptor left goes on to record events', linuxOnly, async () => {
  using folder = temporaryFolder()
  const acknowledged: string[] = []
  {
    await using appending = startAppending(folder.path)
    acknowledged.push(...(await appending.append()).acknowledged)
    limit(appending.pid, 'nofile', 3)
    // More than a segment takes.
    for (let round = 0; round < 20; round += 1) acknowledged.push(...(await appending.append()).acknowledged)
  }
  assert.equal(acknowledged.length, 2_100)
  assert.deepEqual(await keptIn(folder.path), acknowledged)
})
