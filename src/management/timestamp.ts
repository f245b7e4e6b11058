import { z } from 'zod'

/** A time on the wire: RFC 3339, UTC, with `Z` (contract §4). */
export const Timestamp = z.string().meta({ format: 'date-time' })

export function timestamp(epochMs: number): string {
  return new Date(epochMs).toISOString()
}
