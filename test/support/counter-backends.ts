import { randomUUID } from 'node:crypto'
import { type Clock, systemClock, utcDay } from '../../src/clock.ts'
import type { CounterStore } from '../../src/limits/counter-store.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import type { RecordedUsage } from '../../src/limits/recorded-usage.ts'
import { openRedisConnection, redisCountersLibrary } from '../../src/limits/redis-connection.ts'
import { openRedisCounters, type RedisCounters } from '../../src/limits/redis-counters.ts'
import { openLog } from '../../src/log.ts'
import { openMetrics } from '../../src/metrics.ts'
import { ManualClock } from './manual-clock.ts'
import { type RedisServers, startRedis, withoutRedis } from './redis.ts'

/** Everything that implements `CounterStore`; each must pass `test/limits/counter-store.suite.ts`. */
export interface CounterBackend {
  name: string
  /** Options of its tests: what to skip them for. */
  tests: { skip?: string }
  /** What its stores need, once. */
  start(): Promise<RunningBackend>
}

export interface RunningBackend extends AsyncDisposable {
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
    tests: {},
    start: async () => ({
      async open({ leaseMs }) {
        const clock = new ManualClock()
        return {
          counters: openMemoryCounters({ clock, leaseMs }),
          pass: async (ms) => clock.advance(ms),
          today: () => utcDay(clock.now()),
        }
      },
      async [Symbol.asyncDispose]() {},
    }),
  },
  { name: 'Redis', tests: withoutRedis, start: () => startRedisBackend({ servers: 1 }) },
  { name: 'a Redis cluster', tests: withoutRedis, start: () => startRedisBackend({ servers: 3 }) },
]

async function startRedisBackend({ servers }: { servers: 1 | 3 }): Promise<RunningBackend> {
  await using started = new AsyncDisposableStack()
  const redis = started.use(await startRedis({ servers }))
  const parts = started.move()
  return {
    async open({ leaseMs }) {
      const time = new RedisTime(redis)
      const counters = parts.use(await openTestRedisCounters({ redis, leaseMs, library: time.library }))
      // The servers have the library, and with it the clock, from the first call on.
      await counters.probe('any')
      return { counters, pass: (ms) => time.pass(ms), today: () => utcDay(time.nowMs) }
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** A store of its own connection and name. */
export async function openTestRedisCounters({
  redis,
  clock = systemClock,
  ...options
}: {
  redis: Pick<RedisServers, 'url'>
  clock?: Clock
  leaseMs?: number
  library?: string
  deadlineMs?: number
  recordedUsage?: RecordedUsage
}): Promise<RedisCounters> {
  await using opened = new AsyncDisposableStack()
  const log = openLog({ level: 'silent' })
  const metrics = openMetrics()
  const connection = opened.use(
    await openRedisConnection({ url: redis.url, clock, log, metrics, deadlineMs: 2_000, ...options }),
  )
  const counters = opened.use(
    openRedisCounters({ connection, node: randomUUID(), recordedUsage: async () => [], clock, metrics, ...options }),
  )
  const parts = opened.move()
  return Object.assign(counters, { [Symbol.asyncDispose]: () => parts.disposeAsync() })
}

/** The function library with a clock that stands still until a test moves it. */
export class RedisTime {
  readonly library: string
  nowMs = Date.parse('2026-01-15T12:00:00.000Z')
  readonly #redis: RedisServers
  readonly #move = `move_${randomUUID().replaceAll('-', '')}`

  constructor(redis: RedisServers) {
    this.#redis = redis
    this.library = redisCountersLibrary()
      .replaceAll("redis.call('TIME')", 'stopped_time()')
      .replace('local function wall_clock()', `${stoppedTime(this.nowMs)}\nlocal function wall_clock()`)
      .concat(`redis.register_function('${this.#move}', move_time)\n`)
  }

  pass(ms: number): Promise<void> {
    return this.jumpTo(this.nowMs + ms)
  }

  async jumpTo(wallMs: number): Promise<void> {
    this.nowMs = wallMs
    await this.#redis.send(['FCALL', this.#move, '0', String(wallMs)])
  }
}

/** What the commands of Redis say of the time, in seconds and microseconds. */
const stoppedTime = (startMs: number) => `
local now_ms = ${startMs}
local function stopped_time()
  return { tostring(math.floor(now_ms / 1000)), tostring((now_ms % 1000) * 1000) }
end
local function move_time(keys, arguments)
  now_ms = tonumber(arguments[1])
  return now_ms
end
`
