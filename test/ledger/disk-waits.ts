import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import type { TestContext } from 'node:test'

/** The names of the calls that wait for the disk, as they are made from now on. They wait all the same. */
export function waitsForDisk(context: TestContext): string[] {
  const waits: string[] = []
  for (const name of ['fdatasyncSync', 'fsyncSync'] as const) {
    const wait = fs[name]
    context.mock.method(fs, name, (file: number) => {
      waits.push(name)
      wait(file)
    })
  }
  syncBuiltinESMExports()
  context.after(() => {
    context.mock.restoreAll()
    syncBuiltinESMExports()
  })
  return waits
}
