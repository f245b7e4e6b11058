import { randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { CounterStore } from './counter-store.ts'
import { type FallbackCountersOptions, type FallbackMode, openFallbackCounters } from './fallback-counters.ts'
import { openMemoryCounters } from './memory-counters.ts'
import { type ReadUsage, recordedUsageInTime } from './recorded-usage.ts'
import { openRedisConnection } from './redis-connection.ts'
import { openRedisCounters } from './redis-counters.ts'

export interface CountersOptions extends Pick<FallbackCountersOptions, 'recordedDay'> {
  /** Null: the counters of this process alone. */
  redisUrl: string | null
  limitsFallback: FallbackMode
  readUsage: ReadUsage
  clock: Clock
  log: Log
  metrics: Metrics
}

/** The counters of an installation: in this process, or in Redis for all its nodes. */
export async function openCounters({
  redisUrl,
  limitsFallback,
  readUsage,
  recordedDay,
  clock,
  log,
  metrics,
}: CountersOptions): Promise<CounterStore & AsyncDisposable> {
  const memory = openMemoryCounters({ clock, metrics })
  if (redisUrl === null) return Object.assign(memory, { async [Symbol.asyncDispose]() {} })

  await using opened = new AsyncDisposableStack()
  const recordedUsage = recordedUsageInTime(readUsage, { clock, log })
  const connection = opened.use(await openRedisConnection({ url: redisUrl, clock, log, metrics }))
  const redis = opened.use(openRedisCounters({ connection, node: randomUUID(), recordedUsage, clock, metrics }))
  const counters = opened.use(
    openFallbackCounters({ redis, memory, mode: limitsFallback, recordedUsage, recordedDay, clock, log, metrics }),
  )
  const parts = opened.move()
  return Object.assign(counters, { [Symbol.asyncDispose]: () => parts.disposeAsync() })
}
