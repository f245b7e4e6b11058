import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { databaseSettings } from './database-backends.ts'

/** `tollgate serve` as a process of its own, which a test may kill. */
export interface ServedProcess extends AsyncDisposable {
  inference: string
  management: string
  pid: number
  /** Ends the process between two instructions, as a crash or `kill -9` does. */
  kill(): Promise<void>
  /** Asks the process to stop, with SIGTERM; resolves with its exit code. */
  stop(): Promise<number | null>
}

export const workspaceKey = 'wk_test.0123456789abcdef0123456789abcdef'

export interface ServedOptions {
  /** How many files the process may have open at a time; left out: as many as this one. */
  openFilesMax?: number
}

export async function startServed(
  dataDir: string,
  settings: Record<string, string> = {},
  { openFilesMax }: ServedOptions = {},
): Promise<ServedProcess> {
  const command = [process.execPath, join(import.meta.dirname, '../../src/main.ts'), 'serve']
  const limit = openFilesMax === undefined ? '' : `ulimit -n ${openFilesMax}; `
  const child = spawn('sh', ['-c', `${limit}exec "$@"`, 'sh', ...command], {
    env: {
      PATH: process.env['PATH'],
      TOLLGATE_DATA_DIR: dataDir,
      TOLLGATE_INFERENCE_LISTEN: '127.0.0.1:0',
      TOLLGATE_MANAGEMENT_LISTEN: '127.0.0.1:0',
      TOLLGATE_BOOTSTRAP_KEY: workspaceKey,
      TOLLGATE_LOG_LEVEL: 'silent',
      ...(await databaseSettings(dataDir)),
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const exited = once(child, 'exit')
  const kill = async () => {
    child.kill('SIGKILL')
    await exited
  }
  const stop = async () => {
    child.kill('SIGTERM')
    const [code] = await exited
    return code
  }
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    exited.then(([code]) => Promise.reject(new Error(`The server ended with ${code} before it listened.`))),
  ])
  const { inference, management, pid } = JSON.parse(line) as Pick<ServedProcess, 'inference' | 'management' | 'pid'>
  return { inference, management, pid, kill, stop, [Symbol.asyncDispose]: kill }
}
