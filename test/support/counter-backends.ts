import { utcDay } from '../../src/clock.ts'
import type { CounterStore } from '../../src/limits/counter-store.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { ManualClock } from './manual-clock.ts'

/** Everything that implements `CounterStore`; each must pass `test/limits/counter-store.suite.ts`. */
export interface CounterBackend {
  name: string
  open(options: { leaseMs: number }): Promise<OpenCounters>
}

export interface OpenCounters {
  counters: CounterStore
  /** Resolves when so much time has passed for the store. */
  pass(ms: number): Promise<void>
  /** The store's UTC day. */
  today(): string
}

export const counterBackends: CounterBackend[] = [
  {
    name: 'memory',
    async open({ leaseMs }) {
      const clock = new ManualClock()
      return {
        counters: openMemoryCounters({ clock, leaseMs }),
        pass: async (ms) => clock.advance(ms),
        today: () => utcDay(clock.now()),
      }
    },
  },
]
