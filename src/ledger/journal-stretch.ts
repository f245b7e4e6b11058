import { readRecords } from './journal-record.ts'

/** A stretch of one segment that holds events. It can be read by another thread than the one that appends. */
export interface JournalStretch {
  /** The segment's number and file. */
  segment: number
  path: string
  /**
   * The offsets at which its first record begins and its last one ends. What is behind may be a write that failed,
   * which is cut off again: nobody reads that.
   */
  from: number
  to: number
  /** So many events were counted in it. */
  events: number
  /** So many of them are read together. */
  eventsMax: number
}

/** What a reading has found out about a stretch. */
export interface StretchReading {
  /** What is behind the events that were read; null when that is nothing. */
  left: JournalStretch | null
  /** The offset at which the first damaged record ends, or would have ended. */
  damagedAt: number | null
}

/**
 * Reads the oldest `eventsMax` events of `stretch`, or all, in the form of `eventText`. Whatever has become of the bytes,
 * what is left is less than `stretch`, and null only when nothing can be behind what was read. A damaged record counts
 * as an event.
 */
export function readStretch(stretch: JournalStretch): { texts: string[]; reading: StretchReading } {
  const texts: string[] = []
  let events = 0
  let damagedAt: number | null = null
  let from = stretch.from
  for (const record of readRecords(stretch.path, stretch)) {
    if (record.kind !== 'removal' && texts.length === stretch.eventsMax) {
      // Damage to line ends can make records more than were counted: there is one more all the same.
      const left = { ...stretch, from, events: Math.max(1, stretch.events - events) }
      return { texts, reading: { left, damagedAt } }
    }
    // Only whole records were committed: what is torn here has been damaged since.
    from = record.kind === 'torn' ? stretch.to : record.end
    if (record.kind === 'torn' || record.kind === 'damaged') damagedAt ??= from
    if (record.kind === 'event') texts.push(record.text)
    if (record.kind !== 'removal') events += 1
  }
  return { texts, reading: { left: null, damagedAt } }
}
