import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { startReceiver } from '../delivery/receiver.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { call, readEvents, readMetrics, setUp, sumOf, usageToday } from '../support/record-under-load.ts'
import { type ServedProcess, startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

const kills = 20
const stops = 3

/**
 * The record's promise, on real processes under load: a response that a client saw complete has exactly one event,
 * whatever ended the process and whenever (contract §14).
 */
test('killed, stopped and run out of disk, the server loses no event of a completed response and doubles none', async (t) => {
  await using started = new AsyncDisposableStack()
  const folder = started.use(temporaryFolder())
  const disk = smallDisk(folder.path)
  started.defer(() => {
    disk.unmount()
  })
  const upstream = started.use(await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } }))
  const receiver = started.use(await startReceiver())
  let server = await startServed(disk.path)
  started.defer(async () => {
    await server.kill()
  })
  const { groupId, key } = await setUp(server, { upstream, webhookUrl: receiver.url })

  const completed = new Set<string>()
  let isOver = false
  const clients = Array.from({ length: 12 }, async (_, index) => {
    while (!isOver) {
      const requestId = await call(server, key, { stream: index % 2 === 0 })
      if (requestId === null) await delay(5)
      else completed.add(requestId)
    }
  })
  const progress = async (responses: number) => {
    const enough = completed.size + responses
    await until(() => completed.size >= enough, { withinMs: 20_000 })
  }

  for (let kill = 0; kill < kills; kill++) {
    await progress(20)
    await delay(Math.random() * 60)
    await server.kill()
    server = await startServed(disk.path)
  }
  for (let stop = 0; stop < stops; stop++) {
    await progress(20)
    assert.equal(await server.stop(), 0, 'a stop that was asked for ends with exit code 0')
    server = await startServed(disk.path)
  }
  await progress(20)
  disk.fill()
  const before = completed.size
  await until(async () => (await failedWrites(server)) >= 3, { withinMs: 30_000 })
  const whileFull = completed.size - before
  disk.free()
  await progress(50)
  isOver = true
  await Promise.all(clients)

  const recorded = await readEvents(server)
  const ids = recorded.map(({ requestId }) => requestId)
  const lost = [...completed].filter((id) => !ids.includes(id))
  const doubled = ids.length - new Set(ids).size
  await until(
    () =>
      new Set(receiver.posts.flatMap(({ events }) => events.map((event) => event.idempotencyKey))).size ===
      recorded.length,
    { withinMs: 30_000 },
  )
  t.diagnostic(
    `${kills} kills, ${stops} stops, 1 full disk (${whileFull} responses meanwhile): ${completed.size} responses seen complete, ` +
      `${recorded.length} events, ${lost.length} lost, ${doubled} doubled, all delivered`,
  )
  assert.deepEqual(lost, [])
  assert.equal(doubled, 0)
  assert.equal(new Set(recorded.map(({ idempotencyKey }) => idempotencyKey)).size, recorded.length)
  assert.deepEqual(
    recorded.map(({ sequence }) => sequence),
    recorded.map((_, index) => index + 1),
  )

  assert.deepEqual(await usageToday(server, groupId), sumOf(recorded), "the day's counters are the sum of the record")

  assert.equal(await server.stop(), 0)
  await using database = await openTestDatabase(disk.path)
  assert.deepEqual(await Array.fromAsync(verifyLedger(database.queries)), [])
})

/** How often the ledger, or the journal, could not be written. */
async function failedWrites(server: ServedProcess): Promise<number> {
  const series = /^tollgate_(?:shipping_failures|events_unrecorded)_total (\d+)$/gm
  return [...(await readMetrics(server)).matchAll(series)].reduce((sum, [, count]) => sum + Number(count), 0)
}

/** A disk of 64 MB that a test can fill up and free again. */
function smallDisk(parent: string) {
  const path = join(parent, 'disk')
  const ballast = join(path, 'ballast')
  execFileSync('mkdir', [path])
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=0700', 'tmpfs', path])
  return {
    path,
    fill() {
      try {
        writeFileSync(ballast, Buffer.alloc(128 * 1024 * 1024))
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
      }
    },
    free: () => rmSync(ballast),
    unmount: () => execFileSync('umount', ['-l', path]),
  }
}
