import { sleep } from '../../../src/clock.ts'
import type { Exchange } from './exchange.ts'

/** When an answer may go on; all of it resolves at once when the answer has ended. */
export interface Pace {
  opening(): Promise<void>
  chunk(): Promise<void>
  closing(): Promise<void>
}

export function paceOf({ request, script, clock }: Exchange): Pace {
  const { progress } = request
  const pace = script.pace ?? 'at-once'
  const atOnce = () => Promise.resolve()
  if (pace === 'manual') {
    return {
      opening: () => progress.mayOpen(),
      chunk: () => progress.mayProduce(),
      closing: () => progress.mayFinish(),
    }
  }
  if (pace === 'at-once') return { opening: atOnce, chunk: atOnce, closing: atOnce }
  return { opening: atOnce, chunk: () => sleep(clock, pace.chunkDelayMs, progress.signal), closing: atOnce }
}
