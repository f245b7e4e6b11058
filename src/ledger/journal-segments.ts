import { unlink } from 'node:fs/promises'
import type { Log } from '../log.ts'
import { eventRecord, readRecords, removalRecord, type SegmentPlace } from './journal-record.ts'
import { beginSegment, type GrowingSegment, type Segment } from './journal-segment.ts'
import { copyOfDamaged, presentSegments, segmentFile } from './journal-segment-files.ts'
import type { JournalStretch, StretchReading } from './journal-stretch.ts'

export interface JournalSegmentsOptions {
  /** The path of the segments' files without number and ending: `.tollgate/journal`. */
  stem: string
  /** What has grown to so much is followed by another. */
  segmentBytesMax: number
  log: Log
}

/**
 * The journal's events on disk, in a row of files that only grow, its segments: `journal.00000001.log` and so on. A
 * commit is one write to the last of them. What the ledger has is not taken out: a record at the end says up to where
 * that is, and a segment that lies before it is deleted as a whole.
 *
 * - Each opening begins a segment of its own, and so does the first event after `segmentBytesMax`: nothing is ever
 *   written behind a record that a kill, a power cut or a full disk has torn.
 * - A segment begins with the place of the oldest event: the newest segment knows it without those before.
 * - A write that failed is cut off again. Where that fails too, the segment is left as it is and the next one begun.
 * - Who ships events reads them himself, a stretch at a time: bytes that are committed, and neither change nor
 *   go away until he says that he has read them.
 * - A record that does not fit its checksum is passed over. Its segment is copied, and the log says so.
 * - In memory are names, sizes, counts and one place, however many events wait.
 */
export class JournalSegments {
  readonly #options: JournalSegmentsOptions
  /** Without those that have been removed as a whole. */
  #segments: Segment[]
  /** The last of the segments, once there is one of this opening. */
  #growing: GrowingSegment | null = null
  #nextNumber: number
  /** The ledger has everything before it. */
  #oldest: SegmentPlace
  readonly #damaged = new Set<Segment>()
  #deletions: Promise<unknown> = Promise.resolve()

  constructor(options: JournalSegmentsOptions) {
    this.#options = options
    const { segments, nextNumber } = presentSegments(options.stem)
    this.#segments = segments
    this.#nextNumber = nextNumber
    this.#oldest = removedPlace(this.#segments) ?? { segment: 0, offset: 0 }
    this.#deleteRemoved()
    for (const segment of this.#segments) this.#count(segment)
  }

  /** How many events have not been removed. */
  get depth(): number {
    return this.#segments.reduce((sum, { events }) => sum + events, 0)
  }

  /** Adds all of `texts`, or throws having added none. They survive a killed process or, with full, a power cut. */
  append(texts: readonly string[], sync: 'normal' | 'full'): void {
    let records = ''
    for (const text of texts) records += eventRecord(text)
    this.#write(records, sync).events += texts.length
  }

  /** Writes what changes nothing, as an event would be, and more of it than a block that is begun may have room for. */
  proveRoom(sync: 'normal' | 'full'): void {
    this.#write(removalRecord(this.#oldest).repeat(200), sync)
  }

  /** All events that are there now, oldest first: a stretch for each segment that has any. */
  stretches(eventsMax: number): JournalStretch[] {
    const holding = this.#segments.filter(({ events }) => events > 0)
    return holding.map((segment) => {
      const { number, path, bytes, events } = segment
      return { segment: number, path, from: this.#beginning(segment), to: bytes, events, eventsMax }
    })
  }

  /**
   * Removes what has been read of the oldest stretch; of another, or one that has been removed before, nothing. It does
   * not wait for the disk: after a power cut, some may come back.
   */
  remove(stretch: JournalStretch, { left, damagedAt }: StretchReading): void {
    const oldest = this.#segments.find(({ events }) => events > 0)
    if (oldest?.number !== stretch.segment || this.#beginning(oldest) !== stretch.from) return
    if (damagedAt !== null) this.#keepDamaged(oldest, damagedAt)
    oldest.events -= stretch.events - (left?.events ?? 0)
    this.#oldest = { segment: stretch.segment, offset: left?.from ?? stretch.to }
    try {
      this.#write(removalRecord(this.#oldest), 'normal')
    } catch {
      // A full disk must not keep segments from being deleted. The next removal will say this one too.
    }
    this.#deleteRemoved()
  }

  /** Leaves no file of a journal that is empty. */
  async close(): Promise<void> {
    this.#growing?.close()
    await this.#deletions
    if (this.depth > 0) return
    // The newest is the last to go: it knows that the others have been removed.
    for (const segment of this.#segments) await this.#delete(segment)
  }

  /** The offset at which what has not been removed of the segment begins. */
  #beginning({ number }: Segment): number {
    return number === this.#oldest.segment ? this.#oldest.offset : 0
  }

  #count(segment: Segment): void {
    for (const record of readRecords(segment.path, { from: this.#beginning(segment), to: segment.bytes })) {
      if (record.kind === 'torn') this.#leaveOut(segment, record.bytes)
      if (record.kind === 'damaged') this.#keepDamaged(segment, record.end)
      if (record.kind === 'event' || record.kind === 'damaged') segment.events += 1
    }
  }

  #write(records: string, sync: 'normal' | 'full'): Segment {
    const segment = this.#growingSegment()
    segment.write(segment.bytes === 0 ? removalRecord(this.#oldest) + records : records, sync)
    return segment
  }

  #growingSegment(): GrowingSegment {
    const growing = this.#growing
    if (growing?.isSound && growing.bytes < this.#options.segmentBytesMax) return growing
    try {
      const next = beginSegment(segmentFile(this.#options.stem, this.#nextNumber))
      growing?.close()
      this.#nextNumber += 1
      this.#segments.push(next)
      this.#growing = next
      return next
    } catch (error) {
      // With no descriptor left, say, the old one goes on growing.
      if (growing?.isSound) return growing
      throw error
    }
  }

  /** Off the event loop: the file system takes its time over large files. */
  #deleteRemoved(): void {
    const removed = this.#segments.filter(({ number }) => number < this.#oldest.segment)
    if (removed.length === 0) return
    this.#segments = this.#segments.filter(({ number }) => number >= this.#oldest.segment)
    this.#deletions = Promise.all([this.#deletions, ...removed.map((segment) => this.#delete(segment))])
  }

  async #delete({ path }: Segment): Promise<void> {
    try {
      await unlink(path)
    } catch (error) {
      this.#options.log.warn({ err: error }, 'a segment of the journal that is not needed cannot be deleted')
    }
  }

  #leaveOut(segment: Segment, bytes: number): void {
    segment.bytes -= bytes
    const { path } = segment
    this.#options.log.info({ path, bytes }, 'the journal ends in a torn record, which is left out: it was not promised')
  }

  #keepDamaged(segment: Segment, offset: number): void {
    if (this.#damaged.has(segment)) return
    this.#damaged.add(segment)
    const { path } = segment
    const { log } = this.#options
    try {
      const copy = copyOfDamaged(segment)
      log.error({ path, offset, copy }, 'the journal is damaged: bill what can be read in the copy, and check the disk')
    } catch (error) {
      log.error({ err: error, path, offset }, 'the journal is damaged, and cannot be copied: check the disk')
    }
  }
}

/** What the newest removal says: segments come oldest first, and removals only go forward. */
function removedPlace(segments: readonly Segment[]): SegmentPlace | null {
  for (const { path, bytes } of segments.toReversed()) {
    let place: SegmentPlace | null = null
    for (const record of readRecords(path, { from: 0, to: bytes })) if (record.kind === 'removal') place = record.place
    if (place !== null) return place
  }
  return null
}
