import type { CounterStore } from '../limits/counter-store.ts'
import type { MainCalls } from './calls.ts'
import { type Channel, ChannelError } from './channel.ts'

export type MainChannel = Channel<MainCalls>

/**
 * The counters of all workers, as a worker sees them: they live in the main process, so that n workers admit
 * together what one would. Seeding them and asking for the day's usage are the main process's own affairs.
 */
export function sharedCounters(main: MainChannel, { leaseMs }: { leaseMs: number }): CounterStore {
  return {
    leaseMs,
    take: (demand) => main.call('take', demand),
    settle: (hold, tokens) => main.call('settle', hold, tokens).catch(unlessGone),
    abandon: (hold, tokens) => main.call('abandon', hold, tokens).catch(unlessGone),
    release: (hold) => main.call('release', hold).catch(unlessGone),
    renew: (holds) => main.call('renew', holds).catch(() => undefined),
    seedDay: () => Promise.reject(new Error('A worker does not seed the counters.')),
    dayUsage: () => Promise.reject(new Error('A worker does not answer for usage.')),
  }
}

/** Its counters have gone with the main process; the next one starts from the record. */
function unlessGone(error: unknown): void {
  if (!(error instanceof ChannelError)) throw error
}
