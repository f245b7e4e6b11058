import type { MetricObject } from 'prom-client'
import type { Config, ListenAddress } from '../config.ts'
import type { CounterStore } from '../limits/counter-store.ts'
import type { Change } from '../storage/change-log.ts'

/** What the main process asks of a worker. */
export type WorkerCalls = {
  open: (start: WorkerStart) => Promise<void>
  listen: (address: ListenAddress) => Promise<string>
  invalidate: (change: Change) => Promise<void>
  flush: () => Promise<void>
  takesEvents: () => Promise<boolean>
  ping: () => Promise<void>
  metrics: () => Promise<MetricObject[]>
  drain: () => Promise<void>
  stop: () => Promise<void>
}

/** What a worker asks of the main process, which owns the counters and delivers what was recorded. */
export type MainCalls = Pick<CounterStore, 'take' | 'settle' | 'abandon' | 'release' | 'renew'> & {
  shipped: (workspaceIds: readonly string[]) => Promise<void>
}

export interface WorkerStart {
  config: Config
  masterKey: Uint8Array
  journalPath: string
  leaseMs: number
}
