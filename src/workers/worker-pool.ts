import type { MetricObject } from 'prom-client'
import { type Clock, inTime, repeat, sleep, type Timer } from '../clock.ts'
import type { Config, ListenAddress } from '../config.ts'
import { UnavailableError } from '../errors.ts'
import { type InferencePlane, recordingMsMax } from '../inference-plane.ts'
import type { ShippedListener } from '../ledger/shipper.ts'
import type { CounterStore } from '../limits/counter-store.ts'
import type { Log } from '../log.ts'
import type { Change } from '../storage/change-log.ts'
import type { MainCalls, WorkerStart } from './calls.ts'
import { ChannelError } from './channel.ts'
import { WorkerProcess } from './worker-process.ts'

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
const pingEveryMs = 5_000
/**
 * Whoever has left so many in a row without an answer hangs. One would not do: where all processes were held up, the
 * machine's sleep for one, this one may be the first to go on.
 */
const pingsUnansweredMax = 2
/** How long a caller waits for the workers' journals to be shipped. */
const flushMsMax = 10_000
const restartPauseMs = 100
/** How long a worker may take to stop when its requests have ended: to ship its journal, above all. */
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
 * - A worker that hangs holds up nobody: one that does not hear of a change in time, or does not stop, is killed; so is
 *   one that gives no sign of life, since the kernel goes on giving it its share of the connections.
 */
export async function openWorkerPool(parts: WorkerPoolParts): Promise<WorkerPool> {
  const pool = new ForkedWorkers(parts)
  await pool.open()
  return pool
}

/** Of one worker after the other. */
interface Place {
  number: number
  worker: WorkerProcess | null
  /** Resolves once there is a worker, and it is open. */
  opened: PromiseWithResolvers<void>
}

class ForkedWorkers implements WorkerPool {
  readonly #parts: WorkerPoolParts
  readonly #places: readonly Place[]
  readonly #listeners: ShippedListener[] = []
  #address: ListenAddress | null = null
  #pings: Timer | null = null
  #stopping = false

  constructor(parts: WorkerPoolParts) {
    this.#parts = parts
    this.#places = parts.journalPaths.map((_path, number) => ({
      number,
      worker: null,
      opened: Promise.withResolvers(),
    }))
  }

  async open(): Promise<void> {
    try {
      await Promise.all(this.#places.map((place) => this.#start(place)))
    } catch (error) {
      this.#stopping = true
      for (const { worker } of this.#places) worker?.kill()
      throw error
    }
    for (const place of this.#places) void this.#keepTaken(place)
    this.#pings = repeat(this.#parts.clock, pingEveryMs, () => this.#ping())
  }

  async listen(address: ListenAddress): Promise<string> {
    const [first] = this.#workers({ areOpen: true })
    if (first === undefined) throw new Error('There is no worker to listen.')
    const url = await first.worker.channel.call('listen', address)
    const shared = { ...address, port: Number(new URL(url).port) }
    this.#address = shared
    const others = this.#workers({ areOpen: true }).filter(({ worker }) => worker !== first.worker)
    await Promise.all(others.map(({ worker }) => worker.channel.call('listen', shared)))
    return url
  }

  async invalidate(change: Change): Promise<void> {
    // A worker that is starting reads what it is to serve when it listens, and hears of the change before that.
    for (const { worker } of this.#workers({ areOpen: false })) {
      worker.channel.call('invalidate', change).catch(() => undefined)
    }
    await this.#allInTime(answerMs, ({ channel }) => channel.call('invalidate', change))
  }

  async flush(): Promise<void> {
    const flushed = Promise.all(this.#places.map((place) => this.#flushPlace(place)))
    const late = () => new UnavailableError('The events of the last moments are not in the record yet.')
    await inTime(this.#parts.clock, flushed, { withinMs: flushMsMax, late })
  }

  async drain(): Promise<void> {
    this.#stopping = true
    const withinMs = this.#parts.config.shutdownTimeoutMs + recordingMsMax + answerMs
    await this.#allInTime(withinMs, ({ channel }) => channel.call('drain'))
  }

  onShipped(listener: ShippedListener): void {
    this.#listeners.push(listener)
  }

  metrics(): Promise<MetricObject[][]> {
    return this.#askEach(({ channel }) => channel.call('metrics'), [])
  }

  async takesEvents(): Promise<boolean> {
    const answers = await this.#askEach(({ channel }) => channel.call('takesEvents'), true)
    return answers.every((takesEvents) => takesEvents)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true
    this.#pings?.cancel()
    for (const { worker } of this.#workers({ areOpen: false })) worker.kill()
    const ended = this.#places.map(({ worker }) => worker?.ended)
    await this.#allInTime(stopMsMax, async ({ channel, ended }) => {
      await channel.call('stop')
      await ended
    })
    await Promise.all(ended)
  }

  #ping(): void {
    for (const { number, worker } of this.#workers({ areOpen: true })) {
      if (worker.pingsUnanswered < pingsUnansweredMax) {
        worker.ping()
        continue
      }
      this.#parts.log.error({ number }, 'a worker hangs, and is killed')
      worker.kill()
    }
  }

  /** What a worker has left that ends meanwhile is in the record when its successor has opened. */
  async #flushPlace(place: Place): Promise<void> {
    for (;;) {
      await place.opened.promise
      const { worker } = place
      try {
        return await worker?.channel.call('flush')
      } catch (error) {
        if (!(error instanceof ChannelError)) throw error
        await worker?.ended
      }
    }
  }

  #workers({ areOpen }: { areOpen: boolean }): { number: number; worker: WorkerProcess }[] {
    return this.#places.flatMap(({ number, worker }) => (worker?.isOpen === areOpen ? [{ number, worker }] : []))
  }

  /** What each worker answers that is open; `otherwise` for one that fails, or does not answer in time. */
  #askEach<Answer>(ask: (worker: WorkerProcess) => Promise<Answer>, otherwise: Answer): Promise<Answer[]> {
    const late = sleep(this.#parts.clock, answerMs).then(() => otherwise)
    const workers = this.#workers({ areOpen: true })
    return Promise.all(workers.map(({ worker }) => Promise.race([ask(worker).catch(() => otherwise), late])))
  }

  /**
   * Asks each worker that is open. One that fails, or has not answered after `withinMs`, is killed; whoever comes next
   * ships its journal.
   */
  async #allInTime(withinMs: number, ask: (worker: WorkerProcess) => Promise<unknown>): Promise<void> {
    const { clock, log } = this.#parts
    const late = () => new Error('The worker has not answered in time.')
    await Promise.all(
      this.#workers({ areOpen: true }).map(async ({ number, worker }) => {
        const answered = ask(worker).catch((error) => {
          if (!(error instanceof ChannelError)) throw error
          return worker.ended
        })
        try {
          await inTime(clock, answered, { withinMs, late })
        } catch (cause) {
          log.error({ number, err: cause }, 'a worker does not do what it is asked, and is killed')
          worker.kill()
        }
      }),
    )
  }

  /** Until the pool stops: when a worker has ended, another takes its place. */
  async #keepTaken(place: Place): Promise<void> {
    const { clock, log } = this.#parts
    const { number } = place
    for (let pauseMs = restartPauseMs; ; ) {
      const end = await place.worker?.ended
      if (this.#stopping) return
      if (end !== undefined) log.error({ number, ...end }, 'a worker has ended; another takes its place')
      await sleep(clock, pauseMs)
      if (this.#stopping) return
      try {
        await this.#start(place)
        pauseMs = restartPauseMs
      } catch (cause) {
        if (this.#stopping) return
        log.error({ number, err: cause }, 'a worker could not start')
        pauseMs = failedStartPauseMs
      }
    }
  }

  /** Rejects where there is no worker then that serves. */
  async #start(place: Place): Promise<void> {
    const { config, masterKey, journalPaths, counters } = this.#parts
    const worker = new WorkerProcess(this.#answers())
    place.worker = worker
    const ended = worker.ended.then(() => {
      place.worker = null
      if (worker.isOpen) place.opened = Promise.withResolvers()
    })
    const start: WorkerStart = {
      config,
      masterKey,
      journalPath: journalPaths[place.number] ?? '',
      leaseMs: counters.leaseMs,
    }
    try {
      await worker.channel.call('open', start)
      worker.isOpen = true
      place.opened.resolve()
      if (this.#address !== null && !this.#stopping) await worker.channel.call('listen', this.#address)
    } catch (error) {
      worker.kill()
      await ended
      throw error
    }
  }

  #answers(): MainCalls {
    const { counters } = this.#parts
    return {
      take: (demand) => counters.take(demand),
      settle: (hold, tokens) => counters.settle(hold, tokens),
      abandon: (hold, tokens) => counters.abandon(hold, tokens),
      release: (hold) => counters.release(hold),
      renew: (holds) => counters.renew(holds),
      shipped: async (workspaceIds) => {
        for (const listener of this.#listeners) listener(workspaceIds)
      },
    }
  }
}
