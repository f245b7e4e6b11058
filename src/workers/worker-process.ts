import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import type { MainCalls, WorkerCalls } from './calls.ts'
import { Channel } from './channel.ts'

/** One worker, as the main process sees it. */
export class WorkerProcess {
  readonly channel: Channel<WorkerCalls>
  /** Resolves once there is no such process, or none could be made. */
  readonly ended: Promise<WorkerEnd>
  /** Whether it has answered `open`. Until it has it serves nobody, and holds no copy of anything that is stored. */
  isOpen = false
  /** How often it was asked for a sign of life since it last gave one. */
  pingsUnanswered = 0
  readonly #child: ChildProcess

  constructor(answers: MainCalls) {
    this.#child = fork(join(import.meta.dirname, 'worker.ts'), { serialization: 'advanced', execArgv: [] })
    this.channel = new Channel<WorkerCalls>(this.#child, answers)
    this.ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => resolve({ code, signal }))
      this.#child.on('error', (err) => {
        // What else fails with a process that there is shows in what it does not answer.
        if (this.#child.pid !== undefined) return
        this.channel.close()
        resolve({ err })
      })
    })
  }

  ping(): void {
    this.pingsUnanswered += 1
    this.channel.call('ping').then(
      () => {
        this.pingsUnanswered = 0
      },
      () => undefined,
    )
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

/** What a worker has ended of, for the log. */
export type WorkerEnd = { code: number | null; signal: NodeJS.Signals | null } | { err: Error }
