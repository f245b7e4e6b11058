import { mkdtempDisposableSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A folder of the test's own, removed with all that is in it: `using folder = temporaryFolder()`. */
export function temporaryFolder(): Disposable & { path: string } {
  return mkdtempDisposableSync(join(tmpdir(), 'tollgate-test-'))
}
