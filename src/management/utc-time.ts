import { invalid } from '../errors.ts'

const utcTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]00:00)$/

/**
 * A time that a caller gave, ISO 8601 in UTC, as milliseconds since the epoch. What is finer is rounded up: so an event,
 * whose time is in whole milliseconds, is within a window exactly when it is by the times as written. Throws a 400 that
 * names `path`.
 */
export function parseUtcTime(path: string, given: string): number {
  const epochMs = utcTime.test(given) ? Date.parse(given) : Number.NaN
  // A day that its month does not have is taken for one of the next month.
  const isReal = !Number.isNaN(epochMs) && new Date(epochMs).toISOString().startsWith(given.slice(0, 10))
  if (!isReal) throw invalid(path, `${path} must be an ISO 8601 time in UTC, like 2026-01-31T12:00:00Z.`)
  return /\.\d{3}\d*[1-9]/.test(given) ? epochMs + 1 : epochMs
}
