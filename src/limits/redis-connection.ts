import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, inTime } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { CountersUnavailable } from './counter-store.ts'
import { openRedisClient, type RedisClient } from './redis-client.ts'

/** The functions of `redis-counters.lua`. */
export type RedisFunction = 'take' | 'finish' | 'renew' | 'merge' | 'open' | 'recall' | 'usage'
export type RedisAnswer = readonly (string | number)[]

/** Calls the functions that keep counters, wherever Redis has them, each call within a deadline. */
export interface RedisConnection extends AsyncDisposable {
  /**
   * Resolves with the function's answer. Rejects with `CountersUnavailable` when there is none in time; the function may
   * have run all the same. `keys` belong to one hierarchy.
   */
  call(name: RedisFunction, keys: readonly string[], values: readonly (string | number)[]): Promise<RedisAnswer>
  /** Calls `listener` when a server is there again that was not: it may have lost what it knew. */
  onConnected(listener: () => void): void
  /** Names the server that has this key: what is away for one key of it is away for all. */
  shardOf(key: string): string
}

export interface RedisConnectionOptions {
  /** `redis://` or `rediss://`, with user, password and database; of a cluster, any of its servers. */
  url: string
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'counterStoreAnswered' | 'counterStoreFailed'>
  /** How long a call may take. */
  deadlineMs?: number
  /** The source of the function library; `LIBRARY` in it is replaced by a name that stands for this very text. */
  library?: string
}

export function redisCountersLibrary(): string {
  return readFileSync(join(import.meta.dirname, 'redis-counters.lua'), 'utf8')
}

/** Resolves once Redis answers, or after a moment without: it is then connected to in the background, however long it takes. */
export async function openRedisConnection({
  url,
  clock,
  log,
  metrics,
  deadlineMs = 300,
  library = redisCountersLibrary(),
}: RedisConnectionOptions): Promise<RedisConnection> {
  // Nodes of two versions, during an upgrade, each find their own functions.
  const name = `tollgate_${hash('sha256', library).slice(0, 16)}`
  const source = library.replaceAll('LIBRARY', name)
  const listeners: (() => void)[] = []
  const onConnected = () => {
    for (const listener of listeners) listener()
  }
  const client = await openRedisClient({ url, onConnected, clock, log })
  return new FunctionCalls({ client, listeners, name, source, clock, metrics, deadlineMs })
}

interface FunctionCallsParts {
  client: RedisClient
  listeners: (() => void)[]
  name: string
  source: string
  clock: Clock
  metrics: RedisConnectionOptions['metrics']
  deadlineMs: number
}

class FunctionCalls implements RedisConnection {
  readonly #parts: FunctionCallsParts
  #loading: Promise<void> | null = null

  constructor(parts: FunctionCallsParts) {
    this.#parts = parts
  }

  async call(name: RedisFunction, keys: readonly string[], values: readonly (string | number)[]): Promise<RedisAnswer> {
    const { clock, metrics } = this.#parts
    const startedMs = clock.monotonic()
    try {
      const answer = await this.#withinDeadline(this.#callLoaded(name, keys, values))
      metrics.counterStoreAnswered({ tookMs: clock.monotonic() - startedMs })
      return answer
    } catch (cause) {
      const kind = kindOf(cause)
      metrics.counterStoreFailed({ kind })
      throw new CountersUnavailable(`The counters in Redis cannot be asked: ${kind}.`, { cause })
    }
  }

  onConnected(listener: () => void): void {
    this.#parts.listeners.push(listener)
  }

  shardOf(key: string): string {
    return this.#parts.client.shardOf(key)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.client[Symbol.asyncDispose]()
  }

  /** A server that was restarted empty, or has joined, does not have the functions yet. */
  async #callLoaded(name: RedisFunction, keys: readonly string[], values: readonly (string | number)[]) {
    const [key = ''] = keys
    const command = ['FCALL', `${this.#parts.name}_${name}`, String(keys.length), ...keys, ...values.map(String)]
    try {
      return await this.#parts.client.send(key, command)
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('Function not found'))) throw error
      await this.#load()
      return await this.#parts.client.send(key, command)
    }
  }

  #load(): Promise<void> {
    this.#loading ??= this.#parts.client.sendToAll(['FUNCTION', 'LOAD', 'REPLACE', this.#parts.source]).finally(() => {
      this.#loading = null
    })
    return this.#loading
  }

  async #withinDeadline(answer: Promise<unknown>): Promise<RedisAnswer> {
    const { clock, deadlineMs } = this.#parts
    const late = () => new DeadlineError()
    return (await inTime(clock, answer, { withinMs: deadlineMs, late })) as RedisAnswer
  }
}

class DeadlineError extends Error {}

/** Why a call failed, as a label: what Redis answers as an error begins with a word in capitals. */
function kindOf(cause: unknown): 'deadline' | 'refused' | 'connection' {
  if (cause instanceof DeadlineError) return 'deadline'
  return cause instanceof Error && /^[A-Z]{3,} /.test(cause.message) ? 'refused' : 'connection'
}
