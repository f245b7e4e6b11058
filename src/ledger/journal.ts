import type { DatabaseSync } from 'node:sqlite'
import { StartError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { openSqliteFile } from '../storage/sqlite.ts'
import type { BillingEvent } from './billing-event.ts'
import { eventText } from './event-text.ts'

/** The events of this process that the ledger does not have yet: a file of its own on the local disk. */
export interface Journal extends AsyncDisposable {
  /**
   * Resolves once the event is committed: from then on it survives this process. Rejects with `JournalError` when
   * it could not be written, and then nothing of it was; the next append tries afresh. Rejects with `RangeError` an
   * event whose token counts are none.
   */
  append(event: BillingEvent): Promise<void>
  /** At least the oldest `least`, or all; what shares a row of the file comes together (`rowEventsMax`). */
  read(least: number): JournalEntry[]
  /** Removes `entry`, the last one of a reading, and all that are older. */
  remove(entry: JournalEntry): void
  /** How many events the journal holds. */
  depth(): number
  /** Calls `listener` after each commit of appended events. */
  onAppended(listener: () => void): void
}

export interface JournalEntry {
  /** Ascends by one from entry to entry. */
  id: number
  /** The event; `eventOfText` reads it. */
  text: string
}

export interface JournalOptions {
  path: string
  /** What an appended event survives: normal, a killed process; full, a power cut too. */
  sync: 'normal' | 'full'
  log: Log
  metrics: Pick<Metrics, 'journalDepth'>
  /** More events than this raise an alarm in the log. None is lost or refused: the disk is the only limit. */
  eventsMax?: number
}

/** An event that is not on disk. The response it belongs to has been served: whoever catches this raises an alarm. */
export class JournalError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'JournalError'
  }
}

/** Opens (and makes) the journal at `path`. Throws `StartError` where another process has it open. */
export function openJournal({ path, sync, log, metrics, eventsMax = 1_000_000 }: JournalOptions): Journal {
  try {
    return new SqliteJournal({ path, sync, log, metrics, eventsMax })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartError(
      `The journal ${path} cannot be opened: ${reason}. One process at a time can use a data folder.`,
      { cause },
    )
  }
}

class SqliteJournal implements Journal {
  readonly #options: Required<JournalOptions>
  /** Null after a failure, until it is needed again, and after closing. */
  #file: JournalFile | null
  #newestId: number
  #removedId: number
  #waiting: WaitingAppend[] = []
  #overBound = false
  #closed = false
  readonly #listeners: (() => void)[] = []

  constructor(options: Required<JournalOptions>) {
    this.#options = options
    this.#file = openJournalFile(options)
    this.#newestId = this.#file.newestId
    this.#removedId = this.#file.oldestId - 1
    this.#depthChanged()
  }

  async append(event: BillingEvent): Promise<void> {
    if (this.#closed) throw new JournalError('The journal is closed.')
    const text = eventText(event)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ text, resolve, reject })
      // What is appended while this turn of the event loop lasts is committed together.
      if (this.#waiting.length === 1) setImmediate(() => this.#commitWaiting())
    })
  }

  read(least: number): JournalEntry[] {
    return this.#use((file) => file.read(least))
  }

  remove(entry: JournalEntry): void {
    this.#use((file) => file.remove(entry.id))
    this.#removedId = entry.id
    this.#depthChanged()
  }

  depth(): number {
    return this.#newestId - this.#removedId
  }

  onAppended(listener: () => void): void {
    this.#listeners.push(listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#commitWaiting()
    this.#closed = true
    this.#file?.close()
    this.#file = null
  }

  #commitWaiting(): void {
    const appends = this.#waiting
    if (appends.length === 0) return
    this.#waiting = []
    try {
      this.#newestId = this.#use((file) => file.add(appends, this.#newestId + 1))
    } catch (cause) {
      const error = new JournalError('The journal could not be written.', { cause })
      for (const { reject } of appends) reject(error)
      return
    }
    this.#depthChanged()
    for (const { resolve } of appends) resolve()
    for (const listener of this.#listeners) listener()
  }

  /**
   * A file that failed is closed, which rolls back what was begun, and opened again when it is next needed: after
   * an I/O error SQLite's view of it may be stale.
   */
  #use<Result>(work: (file: JournalFile) => Result): Result {
    if (this.#closed) throw new JournalError('The journal is closed.')
    this.#file ??= this.#reopened()
    try {
      return work(this.#file)
    } catch (error) {
      this.#file.close()
      this.#file = null
      throw error
    }
  }

  #reopened(): JournalFile {
    const file = openJournalFile(this.#options)
    // A commit that reported failure may have reached the disk all the same. Ids never start over while we run.
    this.#newestId = Math.max(this.#newestId, file.newestId)
    return file
  }

  #depthChanged(): void {
    const { metrics, log, eventsMax } = this.#options
    const depth = this.depth()
    metrics.journalDepth(depth)
    if (depth > eventsMax && !this.#overBound) {
      this.#overBound = true
      log.error({ events: depth, eventsMax }, 'journal is over its bound: the ledger does not take the events')
    }
    if (depth <= eventsMax / 2) this.#overBound = false
  }
}

interface WaitingAppend {
  text: string
  resolve: () => void
  reject: (error: JournalError) => void
}

/**
 * The file behind the journal, with its statements prepared. A row holds events that were committed together, one on
 * each line, and has the number of its last one: a row for each event takes three times as long to add and remove.
 */
interface JournalFile {
  /** Of events, as they were when it was opened; 1 and 0 where it was empty. */
  oldestId: number
  newestId: number
  /** Adds the texts in one transaction, numbered from `firstId`; returns the last number. */
  add(appends: readonly { text: string }[], firstId: number): number
  read(least: number): JournalEntry[]
  /** Removes the rows up to the event `id`. */
  remove(id: number): void
  close(): void
}

function openJournalFile({ path, sync }: { path: string; sync: 'normal' | 'full' }): JournalFile {
  const file = openSqliteFile(path, { synchronous: sync, locking: 'exclusive' })
  try {
    file.exec('CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, text TEXT NOT NULL)')
    return preparedJournalFile(file)
  } catch (error) {
    file.close()
    throw error
  }
}

function preparedJournalFile(file: DatabaseSync): JournalFile {
  const begin = file.prepare('BEGIN IMMEDIATE')
  const insert = file.prepare('INSERT INTO events (id, text) VALUES (?, ?)')
  const commit = file.prepare('COMMIT')
  const select = file.prepare('SELECT id, text FROM events ORDER BY id')
  const remove = file.prepare('DELETE FROM events WHERE id <= ?')
  const read = (least: number): JournalEntry[] => {
    const entries: JournalEntry[] = []
    for (const row of select.iterate()) {
      entries.push(...rowEntries(Number(row['id']), String(row['text'])))
      if (entries.length >= least) break
    }
    return entries
  }
  return {
    oldestId: read(1)[0]?.id ?? 1,
    newestId: Number(file.prepare('SELECT coalesce(max(id), 0) AS id FROM events').get()?.['id']),
    add(appends, firstId) {
      begin.run()
      for (let start = 0; start < appends.length; start += rowEventsMax) {
        const row = appends.slice(start, start + rowEventsMax)
        insert.run(firstId + start + row.length - 1, row.map(({ text }) => text).join(lineEnd))
      }
      commit.run()
      return firstId + appends.length - 1
    },
    read,
    remove: (id) => remove.run(id),
    close: () => file.close(),
  }
}

/** JSON has no line end in it. */
const lineEnd = '\n'
/** A batch of the shipper is by up to so many events larger than asked for. */
const rowEventsMax = 64

function rowEntries(lastId: number, text: string): JournalEntry[] {
  const texts = text.split(lineEnd)
  return texts.map((text, index) => ({ id: lastId - texts.length + 1 + index, text }))
}
