import { spawnSync } from 'node:child_process'

/** Whether processes may be let go first here: it takes root, or CAP_SYS_NICE. */
export function mayGoFirst(): boolean {
  return spawnSync('chrt', ['--fifo', '1', 'true']).status === 0
}

/**
 * Lets these processes, and those that they start meanwhile, have a processor before all others (SCHED_FIFO, sched(7))
 * for as long as this is not disposed of. Where processors are few, a load generator that has to wait for one counts
 * its own wait as the gateway's.
 */
export function goFirst(pids: readonly number[]): Disposable {
  for (const pid of pids) schedule(pid, ['--fifo', '--pid', '1'])
  return {
    [Symbol.dispose]() {
      for (const pid of pids) schedule(pid, ['--other', '--pid', '0'])
    },
  }
}

function schedule(pid: number, policy: readonly string[]): void {
  const { status, stderr } = spawnSync('chrt', [...policy, String(pid)], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`The priority of process ${pid} cannot be set: ${stderr}`)
}
