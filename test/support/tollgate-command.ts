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

/** Runs the `tollgate` command at a terminal, where a person presses `key` once it asks; resolves with what is on the screen. */
export async function tollgateAtTerminal(
  words: readonly string[],
  { settings, key }: { settings: Record<string, string>; key: string },
): Promise<{ code: number | null; screen: string }> {
  const command = [process.execPath, main, ...words].join(' ')
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env: { PATH: process.env['PATH'], ...settings },
  })
  let screen = ''
  child.stdout.on('data', (shown) => {
    const hadAsked = screen.includes(': ')
    screen += shown
    if (!hadAsked && screen.includes(': ')) child.stdin.write(key)
  })
  const [code] = await once(child, 'exit')
  return { code, screen }
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
