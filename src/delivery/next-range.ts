import { deliverySpanMs } from '../storage/tables.ts'

/** What of an event decides whether it goes into a delivery. */
export interface RangeEvent {
  position: number
  sequence: number
  recorded_at: number
  metadata_bytes: number
}

/** Events in one delivery (contract §14). */
export const eventsMax = 100

/** What the customers' metadata may add to one body: receivers refuse what is too large, and for good. */
const metadataBytesMax = 256 * 1024

/**
 * The events that make up the next delivery: the first of `found`, and those that follow it without a gap, as long as
 * they fit.
 */
export function nextRange(found: readonly RangeEvent[]): RangeEvent[] {
  const range: RangeEvent[] = []
  let metadataBytes = 0
  let fromMs = Number.POSITIVE_INFINITY
  let untilMs = Number.NEGATIVE_INFINITY
  for (const event of found) {
    const before = range.at(-1)
    metadataBytes += event.metadata_bytes
    fromMs = Math.min(fromMs, event.recorded_at)
    untilMs = Math.max(untilMs, event.recorded_at)
    const fits =
      before === undefined ||
      (range.length < eventsMax &&
        event.sequence === before.sequence + 1 &&
        metadataBytes <= metadataBytesMax &&
        untilMs - fromMs <= deliverySpanMs)
    if (!fits) break
    range.push(event)
  }
  return range
}
