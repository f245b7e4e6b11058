import { type Clock, sleep, type Timer } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { eventLoopTurn } from './event-loop-turn.ts'
import type { Journal } from './journal.ts'
import type { JournalStretch } from './journal-stretch.ts'
import type { LedgerWriter } from './ledger-writer.ts'

/**
 * Sees to it that the ledger takes over what is in the journal, for as long as it lives; disposing of it moves the last
 * events. It has none of them in its hands: it tells the ledger where they are, and the journal what the ledger has.
 */
export interface Shipper extends AsyncDisposable {
  /**
   * Resolves once the ledger has all that was in the journal at the time of the call. Rejects with the cause when an
   * attempt fails; what is left stays in the journal, and the shipper goes on trying by itself.
   */
  flush(): Promise<void>
  /** Calls `listener`, after each batch, with the ids of the workspaces whose record has grown. */
  onShipped(listener: ShippedListener): void
}

export type ShippedListener = (workspaceIds: readonly string[]) => void

export interface ShipperOptions {
  journal: Pick<Journal, 'stretches' | 'remove' | 'depth' | 'onAppended'>
  ledger: LedgerWriter
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'shippingFailed'>
  /** At most so many events are in one transaction of the ledger, and in memory at a time. */
  batchMax?: number
  /** How long an event may wait for others to share its transaction. */
  gatherMs?: number
  /** How long disposing may take; what is not shipped by then waits in the journal for the next start. */
  closeMs?: number
}

export function startShipper({ batchMax = 500, gatherMs = 250, closeMs = 5_000, ...parts }: ShipperOptions): Shipper {
  const shipper = new JournalShipper({ batchMax, gatherMs, closeMs, ...parts })
  shipper.start()
  return shipper
}

const retryMsFirst = 100
const retryMsMax = 10_000

class JournalShipper implements Shipper {
  readonly #parts: Required<ShipperOptions>
  readonly #listeners: ShippedListener[] = []
  #pass: Promise<void> | null = null
  #nextPass: Promise<void> | null = null
  #timer: Timer | null = null
  #failures = 0
  #stopped = false

  constructor(parts: Required<ShipperOptions>) {
    this.#parts = parts
  }

  start(): void {
    this.#parts.journal.onAppended(() => this.#schedulePass())
    this.#schedulePass()
  }

  flush(): Promise<void> {
    if (this.#pass === null) return this.#startPass()
    // The pass under way may have begun before the last event was appended: the next one has it. All wait for that one.
    const afterThisPass = () => {
      this.#nextPass = null
      return this.flush()
    }
    this.#nextPass ??= this.#pass.then(afterThisPass, afterThisPass)
    return this.#nextPass
  }

  onShipped(listener: ShippedListener): void {
    this.#listeners.push(listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    const { journal, clock, log, closeMs } = this.#parts
    this.#cancelTimer()
    const deadline = new AbortController()
    await Promise.race([this.flush().catch(() => {}), sleep(clock, closeMs, deadline.signal)])
    deadline.abort()
    const events = journal.depth()
    if (events > 0) log.warn({ events }, 'events stay in the journal; the next start ships them')
  }

  /** Sees to it that what is in the journal is shipped: soon, at once where it fills a batch, later after a failure. */
  #schedulePass(): void {
    const { journal, clock, batchMax, gatherMs } = this.#parts
    const events = journal.depth()
    const isUnderWay = this.#pass !== null || this.#nextPass !== null
    if (this.#stopped || isUnderWay || events === 0) return
    const pass = () => this.#passInBackground()
    if (this.#failures > 0) this.#timer ??= clock.after(retryMs(this.#failures), pass)
    else if (events < batchMax) this.#timer ??= clock.after(gatherMs, pass)
    else pass()
  }

  #passInBackground(): void {
    // A failure is counted and logged where it happens, and tried again.
    this.flush().catch(() => {})
  }

  #startPass(): Promise<void> {
    this.#cancelTimer()
    this.#pass = this.#ship().finally(() => {
      this.#pass = null
      this.#schedulePass()
    })
    return this.#pass
  }

  #cancelTimer(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  /** One pass: all that is in the journal now. */
  async #ship(): Promise<void> {
    const { journal, batchMax } = this.#parts
    try {
      for (const stretch of journal.stretches(batchMax)) await this.#shipStretch(stretch)
    } catch (error) {
      this.#failed(error)
      throw error
    }
  }

  /** A batch at a time, until nothing is left of `stretch`. */
  async #shipStretch(stretch: JournalStretch): Promise<void> {
    for (let left: JournalStretch | null = stretch; left !== null; ) {
      // Requests come first: a batch begins in a turn of its own.
      await eventLoopTurn()
      left = await this.#shipBatch(left)
    }
  }

  async #shipBatch(stretch: JournalStretch): Promise<JournalStretch | null> {
    const { journal, ledger } = this.#parts
    const { workspaceIds, reading } = await ledger.write(stretch)
    // Killed here, the batch is shipped again, which changes nothing.
    journal.remove(stretch, reading)
    this.#succeeded()
    if (workspaceIds.length > 0) for (const listener of this.#listeners) listener(workspaceIds)
    return reading.left
  }

  #failed(error: unknown): void {
    const { journal, log, metrics } = this.#parts
    this.#failures += 1
    metrics.shippingFailed()
    if (this.#failures > 1) return
    log.error({ err: error, events: journal.depth() }, 'events cannot be shipped; they wait in the journal')
  }

  #succeeded(): void {
    if (this.#failures === 0) return
    const { journal, log } = this.#parts
    log.info({ failures: this.#failures, events: journal.depth() }, 'events are shipped again')
    this.#failures = 0
  }
}

function retryMs(failures: number): number {
  return Math.min(retryMsFirst * 2 ** (failures - 1), retryMsMax)
}
