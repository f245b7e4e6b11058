import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

const main = join(import.meta.dirname, '../../src/main.ts')

export interface CommandRun {
  code: number | null
  stdout: string
  stderr: string
}

export interface CommandOptions {
  settings?: Record<string, string>
  input?: string
  /** Ends the command as `kill -9` does, unless it has ended by itself. */
  killAfterMs?: number
}

/** Runs the `tollgate` command to its end. */
export async function tollgate(
  words: readonly string[],
  { settings = {}, input = '', killAfterMs }: CommandOptions = {},
): Promise<CommandRun> {
  const child = spawn(process.execPath, [main, ...words], { env: { PATH: process.env['PATH'], ...settings } })
  child.stdin.end(input)
  const timer = killAfterMs === undefined ? null : setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  if (timer !== null) clearTimeout(timer)
  return { code, stdout, stderr }
}
