import type { EventRow, EventSpanRow } from '../storage/tables.ts'

const spanMs = 600_000

/** The start of the ten minutes that `epochMs` falls into. */
export function spanStart(epochMs: number): number {
  return Math.floor(epochMs / spanMs) * spanMs
}

/** The spans of time that `rows`, in the order of their positions, fall into. */
export function eventSpans(rows: readonly EventRow[]): EventSpanRow[] {
  const spans = new Map<string, EventSpanRow>()
  for (const { workspace_id, recorded_at, position } of rows) {
    const started_at = spanStart(recorded_at)
    const key = `${workspace_id} ${started_at}`
    const span = spans.get(key)
    if (span === undefined) {
      spans.set(key, { workspace_id, started_at, first_position: position, last_position: position })
    } else {
      span.last_position = position
    }
  }
  return [...spans.values()]
}
