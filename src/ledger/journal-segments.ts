import { unlink } from 'node:fs/promises'
import type { Log } from '../log.ts'
import { eventRecord, readRecords, removalRecord, type SegmentPlace } from './journal-record.ts'
import { beginSegment, type GrowingSegment, type Segment } from './journal-segment.ts'
import { copyOfDamaged, presentSegments, segmentFile } from './journal-segment-files.ts'

/** Where an event begins, and its number. Numbers ascend by one, and begin anew with each opening. */
export interface JournalPlace extends SegmentPlace {
  id: number
}

/** The oldest events of a journal, as they were read together. */
export interface JournalBatch {
  /** Oldest first; `eventOfText` reads them. */
  texts: string[]
  /** Where the next ones begin. */
  end: JournalPlace
}

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
 * - A record that does not fit its checksum is passed over. Its segment is copied, and the log says so.
 * - In memory are names, sizes and one place, however many events wait.
 */
export class JournalSegments {
  readonly #options: JournalSegmentsOptions
  /** Without those that have been removed as a whole. */
  #segments: Segment[]
  /** The last of the segments, once there is one of this opening. */
  #growing: GrowingSegment | null = null
  #nextNumber: number
  #oldest: JournalPlace
  #nextId = 1
  readonly #damaged = new Set<Segment>()
  #deletions: Promise<unknown> = Promise.resolve()

  constructor(options: JournalSegmentsOptions) {
    this.#options = options
    const { segments, nextNumber } = presentSegments(options.stem)
    this.#segments = segments
    this.#nextNumber = nextNumber
    const oldest = removedPlace(this.#segments) ?? { segment: 0, offset: 0 }
    this.#oldest = { ...oldest, id: this.#nextId }
    this.#deleteRemoved()
    for (const { end } of this.#unremoved()) this.#nextId = end.id
  }

  /** How many events have not been removed. Damaged ones are among them until a reading has passed over them. */
  get depth(): number {
    return this.#nextId - this.#oldest.id
  }

  /** Adds all of `texts`, or throws having added none. They survive a killed process or, with full, a power cut. */
  append(texts: readonly string[], sync: 'normal' | 'full'): void {
    let records = ''
    for (const text of texts) records += eventRecord(text)
    this.#write(records, sync)
    this.#nextId += texts.length
  }

  /** The oldest `max`, or all. */
  read(max: number): JournalBatch {
    const texts: string[] = []
    let end = this.#oldest
    for (const entry of this.#unremoved()) {
      if (entry.text !== null) texts.push(entry.text)
      end = entry.end
      if (texts.length === max) return { texts, end }
    }
    // That is all, even where damage to line ends has made them more or fewer than were counted before.
    this.#nextId = end.id
    return { texts, end }
  }

  /** Removes what is before `place`. It does not wait for the disk: after a power cut, some may come back. */
  remove(place: JournalPlace): void {
    if (place.id <= this.#oldest.id) return
    this.#oldest = place
    try {
      this.#write(removalRecord(place), 'normal')
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

  /** The events, oldest first, and where the next one begins. A damaged one has no text. */
  *#unremoved(): Generator<{ text: string | null; end: JournalPlace }> {
    let { id } = this.#oldest
    for (const segment of this.#segments) {
      const from = segment.number === this.#oldest.segment ? this.#oldest.offset : 0
      for (const record of readRecords(segment.path, { from, to: segment.bytes })) {
        if (record.kind === 'torn') this.#leaveOut(segment, record.bytes)
        if (record.kind === 'damaged') this.#keepDamaged(segment, record.end)
        if (record.kind === 'torn' || record.kind === 'removal') continue
        id += 1
        const text = record.kind === 'event' ? record.text : null
        yield { text, end: { id, segment: segment.number, offset: record.end } }
      }
    }
  }

  #write(records: string, sync: 'normal' | 'full'): void {
    const segment = this.#growingSegment()
    segment.write(segment.bytes === 0 ? removalRecord(this.#oldest) + records : records, sync)
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
