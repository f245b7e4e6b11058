import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** What became of 100 events, appended one after the other. */
export interface Round {
  acknowledged: string[]
  refusals: string[]
  depth: number
}

/** `appending-process.ts`, which is killed when it is disposed of. */
export interface Appending extends AsyncDisposable {
  pid: number
  append(): Promise<Round>
  remove(): Promise<unknown>
  loseFiles(): Promise<unknown>
}

export function startAppending(folder: string): Appending {
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
