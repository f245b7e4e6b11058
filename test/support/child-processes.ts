import { readFileSync } from 'node:fs'

/** The process ids of this process's own children that serve inference. */
export function childProcesses(): number[] {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  return children.map(Number).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('worker.ts'))
}
