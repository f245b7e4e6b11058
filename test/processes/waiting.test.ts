import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { embeddedDatabasePath } from '../../src/storage/open-database.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { freePort } from '../support/free-port.ts'
import { startServed, workspaceKey } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

for (const fallback of ['local', 'reject']) {
  test(`a node starts, and stops, while Redis is away and the fallback is ${fallback}`, async () => {
    using folder = temporaryFolder()
    await using server = await startServed(folder.path, {
      TOLLGATE_REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
      TOLLGATE_LIMITS_FALLBACK: fallback,
    })
    assert.equal((await fetch(`${server.inference}/health`)).status, 200)
    assert.equal(await server.stop(), 0)
  })
}

test('a start waits for another process that writes to the embedded database', async () => {
  using folder = temporaryFolder()
  await (await startServed(folder.path)).stop()
  using writer = lockedDatabase(folder.path)
  const starting = startServed(folder.path)
  // Less than a query waits for, and more than a process takes to get there.
  await delay(4_000)
  writer.release()
  await using server = await starting
  assert.equal(await server.stop(), 0)
})

test('a stop ends with 0 while another process writes to the embedded database', async () => {
  using folder = temporaryFolder()
  await using server = await startServed(folder.path)
  const groups = `${server.management}/v1/gateway/groups`
  // That the key was used is what the stop has to write.
  assert.equal((await fetch(groups, { headers: { authorization: `Api-Key ${workspaceKey}` } })).status, 200)
  using _writer = lockedDatabase(folder.path)
  assert.equal(await server.stop(), 0)
})

/** The embedded database of `dataDir`, locked as a backup does it, or whoever writes by hand. */
function lockedDatabase(dataDir: string): Disposable & { release(): void } {
  const file = openSqliteFile(embeddedDatabasePath(dataDir), { synchronous: 'normal' })
  file.exec('begin immediate')
  return {
    release: () => file.exec('rollback'),
    [Symbol.dispose]: () => file.close(),
  }
}
