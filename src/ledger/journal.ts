import { type Clock, systemClock } from '../clock.ts'
import { atEndOfTurn } from '../end-of-turn.ts'
import { StartError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { BillingEvent } from './billing-event.ts'
import { eventText } from './event-text.ts'
import { holdJournalLock, type JournalLock } from './journal-lock.ts'
import { JournalSegments } from './journal-segments.ts'
import type { JournalStretch, StretchReading } from './journal-stretch.ts'

/** The events of this process that the ledger does not have yet: files of its own on the local disk. */
export interface Journal extends AsyncDisposable {
  /**
   * Resolves once the event is committed: from then on it survives this process. Rejects with `JournalError` when
   * it could not be written, and then nothing of it was; the next append tries afresh. Rejects with `RangeError` an
   * event whose token counts are none.
   */
  append(event: BillingEvent): Promise<void>
  /**
   * Whether events can be written, as far as is known: not while the last attempt failed, or once it is closed. Asked
   * after a failure, it makes another attempt, once a second.
   */
  takesEvents(): boolean
  /**
   * Where the events are that it holds now, oldest first, to be read `eventsMax` at a time (`readStretch`). They stay
   * until they are removed.
   */
  stretches(eventsMax: number): JournalStretch[]
  /** Removes what has been read of the oldest stretch; of another, or one that has been removed before, nothing. */
  remove(stretch: JournalStretch, reading: StretchReading): void
  /** How many events the journal holds. */
  depth(): number
  /** Calls `listener` after each commit of appended events. */
  onAppended(listener: () => void): void
}

export interface JournalOptions {
  /** Of the lock, `….db`. The events' files are beside it. */
  path: string
  /** What an appended event survives: normal, a killed process; full, a power cut too. */
  sync: 'normal' | 'full'
  log: Log
  metrics: Pick<Metrics, 'journalDepth'>
  clock?: Clock
  /** More events than this raise an alarm in the log. None is lost or refused: the disk is the only limit. */
  eventsMax?: number
  /** A file of events that has grown to so much is followed by another. */
  segmentBytesMax?: number
}

/** An event that is not on disk. The response it belongs to has been served: whoever catches this raises an alarm. */
export class JournalError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'JournalError'
  }
}

/** Opens (and makes) the journal at `path`. Throws `StartError` where another process has it open. */
export function openJournal({
  path,
  eventsMax = 1_000_000,
  segmentBytesMax = 4 * 1024 * 1024,
  clock = systemClock,
  ...options
}: JournalOptions): Journal {
  const stem = path.replace(/\.db$/, '')
  try {
    using opened = new DisposableStack()
    const lock = opened.adopt(holdJournalLock(path), ({ release }) => release())
    const segments = new JournalSegments({ stem, segmentBytesMax, log: options.log })
    moveLeftEvents(lock, segments)
    opened.move()
    return new SegmentedJournal({ ...options, eventsMax, clock, lock, segments })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartError(
      `The journal ${path} cannot be opened: ${reason}. One process at a time can use a data folder.`,
      { cause },
    )
  }
}

/** Killed on the way, it begins again: what is then twice in the journal changes the ledger once. */
function moveLeftEvents(lock: JournalLock, segments: JournalSegments): void {
  for (const texts of lock.leftEvents()) segments.append(texts, 'full')
  lock.removeLeftEvents()
}

type JournalParts = Required<Omit<JournalOptions, 'path' | 'segmentBytesMax'>> & {
  lock: JournalLock
  segments: JournalSegments
}

/** How long after a failure to write the next attempt is made for its own sake. */
const retryMs = 1_000

class SegmentedJournal implements Journal {
  readonly #parts: JournalParts
  /** What is appended in this turn of the event loop. */
  #commit: Commit | null = null
  #overBound = false
  /** When the last attempt to write was made, where it failed. */
  #failedAtMs: number | null = null
  #closed = false
  readonly #listeners: (() => void)[] = []

  constructor(parts: JournalParts) {
    this.#parts = parts
    this.#depthChanged()
  }

  async append(event: BillingEvent): Promise<void> {
    this.#assertOpen()
    const text = eventText(event)
    this.#commit ??= this.#nextCommit()
    this.#commit.texts.push(text)
    await this.#commit.done.promise
  }

  takesEvents(): boolean {
    const { segments, sync, clock } = this.#parts
    if (this.#closed) return false
    if (this.#failedAtMs === null) return true
    if (clock.monotonic() - this.#failedAtMs < retryMs) return false
    try {
      segments.proveRoom(sync)
    } catch (cause) {
      this.#failed(cause)
      return false
    }
    this.#wrote()
    return true
  }

  stretches(eventsMax: number): JournalStretch[] {
    this.#assertOpen()
    return this.#parts.segments.stretches(eventsMax)
  }

  remove(stretch: JournalStretch, reading: StretchReading): void {
    this.#assertOpen()
    this.#parts.segments.remove(stretch, reading)
    this.#depthChanged()
  }

  depth(): number {
    return this.#parts.segments.depth
  }

  onAppended(listener: () => void): void {
    this.#listeners.push(listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#commitWaiting()
    this.#closed = true
    await this.#parts.segments.close()
    this.#parts.lock.release()
  }

  #nextCommit(): Commit {
    atEndOfTurn(() => this.#commitWaiting())
    return { texts: [], done: Promise.withResolvers() }
  }

  #commitWaiting(): void {
    if (this.#commit === null) return
    const { texts, done } = this.#commit
    this.#commit = null
    const { segments, sync } = this.#parts
    try {
      segments.append(texts, sync)
    } catch (cause) {
      this.#failed(cause)
      done.reject(new JournalError('The journal could not be written.', { cause }))
      return
    }
    this.#wrote()
    this.#depthChanged()
    done.resolve()
    for (const listener of this.#listeners) listener()
  }

  #failed(cause: unknown): void {
    const { clock, log } = this.#parts
    if (this.#failedAtMs === null) {
      log.error({ err: cause }, 'the journal cannot be written: requests are refused until it can')
    }
    this.#failedAtMs = clock.monotonic()
  }

  #wrote(): void {
    if (this.#failedAtMs === null) return
    this.#failedAtMs = null
    this.#parts.log.info('the journal can be written again')
  }

  #assertOpen(): void {
    if (this.#closed) throw new JournalError('The journal is closed.')
  }

  #depthChanged(): void {
    const { metrics, log, eventsMax } = this.#parts
    const depth = this.depth()
    metrics.journalDepth(depth)
    if (depth > eventsMax && !this.#overBound) {
      this.#overBound = true
      log.error({ events: depth, eventsMax }, 'journal is over its bound: the ledger does not take the events')
    }
    if (depth <= eventsMax / 2) this.#overBound = false
  }
}

interface Commit {
  texts: string[]
  done: PromiseWithResolvers<void>
}
