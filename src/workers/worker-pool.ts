import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import type { MetricObject } from 'prom-client'
import { type Clock, inTime, sleep } from '../clock.ts'
import type { Config, ListenAddress } from '../config.ts'
import { UnavailableError } from '../errors.ts'
import type { InferencePlane } from '../inference-plane.ts'
import type { ShippedListener } from '../ledger/shipper.ts'
import type { CounterStore } from '../limits/counter-store.ts'
import type { Log } from '../log.ts'
import type { Change } from '../storage/change-log.ts'
import type { MainCalls, WorkerCalls, WorkerStart } from './calls.ts'
import { Channel } from './channel.ts'

export interface WorkerPoolParts {
  config: Config
  masterKey: Uint8Array
  /** One for each worker. */
  journalPaths: readonly string[]
  counters: CounterStore
  clock: Clock
  log: Log
}

export interface WorkerPool extends InferencePlane {
  /** What each worker's metrics are now; workers that do not answer in time are left out. */
  metrics(): Promise<MetricObject[][]>
}

/** How long a worker may take to answer what takes it no time, to hear of a change for one. */
const answerMs = 1_000
/** How long a caller waits for the workers' journals to be shipped. */
const flushMsMax = 10_000
const restartPauseMs = 100
/** How long a worker may take to stop beyond the time for its requests: to ship its journal, for one. */
const stopMsMax = 15_000
/** After a start that failed: what it needs, the database above all, may be away for long. */
const failedStartPauseMs = 2_000

/**
 * The inference plane in several processes that listen on one address; the kernel shares connections out.
 *
 * - The counters live here: limits hold exactly, however many workers there are.
 * - Each worker has a journal of its own. One that dies leaves it to its successor, which ships it before it listens;
 *   what it had reserved returns when the leases end.
 * - A change holds in all workers before whoever made it has an answer.
 * - A worker that hangs holds up nobody: one that does not hear of a change in time, or does not stop, is killed.
 */
export async function openWorkerPool(parts: WorkerPoolParts): Promise<WorkerPool> {
  const pool = new ForkedWorkers(parts)
  await pool.open()
  return pool
}

interface Worker {
  process: ChildProcess
  channel: Channel<WorkerCalls>
  ended: Promise<void>
}

class ForkedWorkers implements WorkerPool {
  readonly #parts: WorkerPoolParts
  readonly #workers = new Map<number, Worker>()
  readonly #listeners: ShippedListener[] = []
  #address: ListenAddress | null = null
  #stopping = false

  constructor(parts: WorkerPoolParts) {
    this.#parts = parts
  }

  async open(): Promise<void> {
    try {
      await Promise.all(this.#parts.journalPaths.map((_path, number) => this.#start(number)))
    } catch (error) {
      this.#stopping = true
      for (const worker of this.#workers.values()) worker.process.kill('SIGKILL')
      throw error
    }
  }

  async listen(address: ListenAddress): Promise<string> {
    const [first, ...others] = this.#workers.values()
    if (first === undefined) throw new Error('There is no worker to listen.')
    const url = await first.channel.call('listen', address)
    this.#address = { ...address, port: Number(new URL(url).port) }
    for (const { channel } of others) await channel.call('listen', this.#address)
    return url
  }

  async invalidate(change: Change): Promise<void> {
    await this.#allInTime(answerMs, ({ channel }) => channel.call('invalidate', change))
  }

  async flush(): Promise<void> {
    const flushed = Promise.all([...this.#workers.values()].map(({ channel }) => channel.call('flush')))
    const late = () => new UnavailableError('The events of the last moments are not in the record yet.')
    await inTime(this.#parts.clock, flushed, { withinMs: flushMsMax, late })
  }

  async drain(): Promise<void> {
    this.#stopping = true
    await this.#allInTime(this.#parts.config.shutdownTimeoutMs + answerMs, ({ channel }) => channel.call('drain'))
  }

  onShipped(listener: ShippedListener): void {
    this.#listeners.push(listener)
  }

  async metrics(): Promise<MetricObject[][]> {
    const late = sleep(this.#parts.clock, answerMs).then(() => [])
    const answers = [...this.#workers.values()].map(({ channel }) =>
      Promise.race([channel.call('metrics').catch(() => []), late]),
    )
    return Promise.all(answers)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true
    const workers = [...this.#workers.values()]
    const withinMs = this.#parts.config.shutdownTimeoutMs + stopMsMax
    await this.#allInTime(withinMs, ({ channel, ended }) => Promise.all([channel.call('stop'), ended]))
    await Promise.all(workers.map(({ ended }) => ended))
  }

  /** Asks each worker. One that has not answered after `withinMs` is killed; the next to start ships its journal. */
  async #allInTime(withinMs: number, ask: (worker: Worker) => Promise<unknown>): Promise<void> {
    const { clock, log } = this.#parts
    const late = () => new Error('The worker has not answered in time.')
    await Promise.all(
      [...this.#workers].map(async ([number, worker]) => {
        const answered = ask(worker).catch(() => undefined)
        try {
          await inTime(clock, answered, { withinMs, late })
        } catch {
          log.error({ number }, 'a worker does not answer, and is killed; the next to start ships its journal')
          worker.process.kill('SIGKILL')
        }
      }),
    )
  }

  async #start(number: number): Promise<void> {
    const { config, masterKey, journalPaths, counters, log } = this.#parts
    const child = fork(join(import.meta.dirname, 'worker.ts'), { serialization: 'advanced', execArgv: [] })
    const channel = new Channel<WorkerCalls>(child, {
      take: (demand) => counters.take(demand),
      settle: (hold, tokens) => counters.settle(hold, tokens),
      abandon: (hold, tokens) => counters.abandon(hold, tokens),
      release: (hold) => counters.release(hold),
      renew: (holds) => counters.renew(holds),
      shipped: async (workspaceIds) => {
        for (const listener of this.#listeners) listener(workspaceIds)
      },
    } satisfies MainCalls)
    const worker = {
      process: child,
      channel,
      ended: new Promise<void>((resolve) => child.once('exit', () => resolve())),
    }
    let hasStarted = false
    this.#workers.set(number, worker)
    child.once('exit', (code, signal) => {
      this.#workers.delete(number)
      if (this.#stopping) return
      log.error({ number, code, signal }, 'a worker has ended; another takes its place')
      void this.#restart(number, { pauseMs: hasStarted ? restartPauseMs : failedStartPauseMs })
    })
    const start: WorkerStart = {
      config,
      masterKey,
      journalPath: journalPaths[number] ?? '',
      leaseMs: counters.leaseMs,
    }
    try {
      await channel.call('open', start)
      if (this.#address !== null && !this.#stopping) await channel.call('listen', this.#address)
      hasStarted = true
    } catch (error) {
      // Its end brings the next attempt.
      child.kill('SIGKILL')
      throw error
    }
  }

  async #restart(number: number, { pauseMs }: { pauseMs: number }): Promise<void> {
    const { clock, log } = this.#parts
    await sleep(clock, pauseMs)
    if (this.#stopping) return
    try {
      await this.#start(number)
    } catch (cause) {
      log.error({ number, err: cause }, 'a worker could not start')
    }
  }
}
