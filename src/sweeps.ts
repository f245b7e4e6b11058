import type { Clock, Timer } from './clock.ts'
import type { Log } from './log.ts'

export interface SweepOptions {
  /** Removes what is due, a small part at a time; between two parts it asks whether it may go on. */
  sweep(mayGoOn: () => boolean): Promise<void>
  everyMs: number
  /** Completes "… could not be removed" in the log. */
  what: string
  clock: Clock
  log: Log
}

/**
 * Sweeps again and again, `everyMs` after the last sweep has ended; the first time soon after the start, since a process
 * may not live that long. One that fails is logged, and the next tries again. Disposing waits for the one under way.
 */
export function startSweeps({ sweep, everyMs, what, clock, log }: SweepOptions): AsyncDisposable {
  let stopped = false
  let timer: Timer | null = null
  let sweeping = Promise.resolve()
  const sweepOnce = async () => {
    try {
      await sweep(() => !stopped)
    } catch (cause) {
      log.error({ err: cause }, `${what} could not be removed; the next sweep tries again`)
    }
    if (!stopped) timer = clock.after(everyMs, start)
  }
  const start = () => {
    sweeping = sweepOnce()
  }
  timer = clock.after(everyMs / 60, start)
  return {
    async [Symbol.asyncDispose]() {
      stopped = true
      timer?.cancel()
      await sweeping
    },
  }
}
