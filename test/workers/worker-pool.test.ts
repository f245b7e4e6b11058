import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { openWorkerPool } from '../../src/workers/worker-pool.ts'
import { quiet } from '../ledger/quiet-parts.ts'
import { madeOf } from '../support/made-of.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('a worker that cannot stop does not keep the others from it', async () => {
  using folder = temporaryFolder()
  const executable = join(folder.path, 'ill')
  const worker = join(import.meta.dirname, 'ill-worker.ts')
  writeFileSync(executable, `#!/bin/sh\nexec '${process.execPath}' '${worker}'\n`, { mode: 0o700 })
  using _ill = madeOf(() => executable)
  const pool = await openWorkerPool({
    config: readConfig({}),
    masterKey: new Uint8Array(32),
    journalPaths: [join(folder.path, 'journal-1.db')],
    counters: openMemoryCounters({ clock: systemClock }),
    clock: systemClock,
    log: quiet.log,
  })
  await pool[Symbol.asyncDispose]()
})
