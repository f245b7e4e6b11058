import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { holdJournalLock } from '../../src/ledger/journal-lock.ts'
import { embeddedDatabasePath } from '../../src/storage/open-database.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { call, customer, manage, readEvents, slug } from '../support/record-under-load.ts'
import { startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { tollgate } from '../support/tollgate-command.ts'
import { until } from '../support/until.ts'

/** Most of the time is spent waiting for locks: they wait together. */
describe('a start on a data folder that is in use', { concurrency: true }, () => {
  test('waits for the workers of a main process that was killed, which record the streams that they cut', async () => {
    using folder = temporaryFolder()
    await using upstream = await startMockUpstream({ script: { chunks: 100_000, pace: { chunkDelayMs: 20 } } })
    const settings = { TOLLGATE_WORKERS: '2' }
    await using server = await startServed(folder.path, settings)
    const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'model' }
    await manage(server, 'POST', '/v1/gateway/endpoints', { slug, targets: [target] })
    const { key } = await customer(server, { entityId: 'cust_42' })
    const body = JSON.stringify({ model: slug, stream: true, messages: [{ role: 'user', content: 'Hello' }] })
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json', connection: 'close' }
    for (let stream = 0; stream < 6; stream += 1) {
      const { body: answer } = await fetch(`${server.inference}/v1/chat/completions`, { method: 'POST', headers, body })
      void answer?.pipeTo(new WritableStream()).catch(() => undefined)
    }
    await until(() => upstream.requests.length === 6)
    await server.kill()

    await using again = await startServed(folder.path, settings)
    assert.equal((await readEvents(again)).length, 6)
  })

  test('says which process has the journal open when that does not end', async () => {
    using folder = temporaryFolder()
    await (await startServed(folder.path)).stop()
    const journal = join(folder.path, 'journal.db')
    const lock = holdJournalLock(journal)
    const { code, stderr } = await tollgate(['serve'], { settings: serveSettings(folder.path), killAfterMs: 50_000 })
    lock.release()
    assert.equal(code, 1, stderr)
    assert.ok(stderr.includes(`tollgate: Process ${process.pid} has the journal ${journal} open`), stderr)
  })

  test('says that the embedded database is locked when that does not end', async () => {
    using folder = temporaryFolder()
    await (await startServed(folder.path)).stop()
    using writer = openSqliteFile(embeddedDatabasePath(folder.path), { synchronous: 'normal' })
    writer.exec('begin immediate')
    const { code, stderr } = await tollgate(['serve'], { settings: serveSettings(folder.path), killAfterMs: 50_000 })
    assert.equal(code, 1)
    assert.match(stderr, /^tollgate: Another process keeps the embedded database locked\..*\n$/)
  })
})

test('whoever calls for the first time is served while a write of the management API waits for the database', async () => {
  using folder = temporaryFolder()
  await using upstream = await startMockUpstream()
  await using server = await startServed(folder.path)
  const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'model' }
  await manage(server, 'POST', '/v1/gateway/endpoints', { slug, targets: [target] })
  const { key } = await customer(server, { entityId: 'cust_42' })

  using other = openSqliteFile(embeddedDatabasePath(folder.path), { synchronous: 'normal' })
  other.exec('begin immediate')
  const group = { metadata: { external_entity_id: 'cust_43' }, models: [{ slug }], hierarchy: {} }
  const writing = manage(server, 'POST', '/v1/gateway/groups', group)
  await fetch(`${server.management}/health/live`)
  assert.notEqual(await call(server, key, { stream: false }), null)
  other.exec('rollback')
  await writing
})

function serveSettings(dataDir: string): Record<string, string> {
  return {
    TOLLGATE_DATA_DIR: dataDir,
    TOLLGATE_INFERENCE_LISTEN: '127.0.0.1:0',
    TOLLGATE_MANAGEMENT_LISTEN: '127.0.0.1:0',
  }
}
