import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { tollgate } from '../support/tollgate-command.ts'

test('those who start at once in a new data folder have the same key', async () => {
  using folder = temporaryFolder()
  const threads = 2
  const folders = Array.from({ length: 50 }, (_, index) => join(folder.path, String(index)))
  for (const path of folders) mkdirSync(path)
  const arrivals = new Int32Array(new SharedArrayBuffer(4 * folders.length))
  const keys = await Promise.all(
    Array.from({ length: threads }, async () => {
      const maker = new Worker(new URL('./secret-maker.ts', import.meta.url), {
        workerData: { folders, arrivals, threads },
      })
      const made: string[] = []
      maker.on('message', (key) => made.push(key))
      await once(maker, 'exit')
      return made
    }),
  )
  const kept = folders.map((path) => readFileSync(join(path, 'master-key'), 'utf8').trim())
  for (const made of keys) assert.deepEqual(made, kept)
})

test('a first start on a full disk leaves nothing of a secret, and says which it cannot write', async () => {
  using folder = temporaryFolder()
  const dataDir = join(folder.path, 'data')
  const main = join(import.meta.dirname, '../../src/main.ts')
  // No file may grow: the size is what a disk without room refuses, too.
  const full = spawnSync('sh', ['-c', `ulimit -f 0; exec '${process.execPath}' '${main}' serve`], {
    env: { PATH: process.env['PATH'], TOLLGATE_DATA_DIR: dataDir },
    encoding: 'utf8',
  })
  assert.equal(full.status, 1, full.stderr)
  assert.ok(full.stderr.startsWith(`tollgate: ${join(dataDir, 'master-key')} cannot be written: `), full.stderr)
  assert.deepEqual(readdirSync(dataDir), [])

  await using _server = await startServed(dataDir)
  for (const name of ['master-key', 'operator-key']) assert.equal(statSync(join(dataDir, name)).mode & 0o777, 0o600)
})

for (const [name, text, must] of [
  ['master-key', '', 'must be 32 bytes in base64; it decodes to 0'],
  ['master-key', 'c2hvcnQ=\n', 'must be 32 bytes in base64; it decodes to 5'],
  ['operator-key', '\n', 'must be a prefix, a dot and at least 16 characters'],
] as const) {
  test(`a ${name} file that says ${JSON.stringify(text)} stops the start with a sentence that names it`, async () => {
    using folder = temporaryFolder()
    const path = join(folder.path, name)
    writeFileSync(path, text)
    const { code, stderr } = await tollgate(['serve'], {
      settings: { TOLLGATE_DATA_DIR: folder.path },
      killAfterMs: 20_000,
    })
    assert.equal(code, 1)
    assert.ok(stderr.startsWith(`tollgate: ${path} ${must}`), stderr)
    assert.match(stderr, /remove it: the next start makes another\.\n$/)
  })
}
