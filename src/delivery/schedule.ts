import type { OutboundFailure } from '../outbound.ts'

/** What came of an attempt, as far as the next one depends on it. */
export type AttemptResult =
  | { answered: true; status: number; retryAfter: string | null }
  | { answered: false; failure: OutboundFailure | 'events-removed' }

/** Where a delivery stands after an attempt. */
export interface AttemptTimes {
  /** Attempts made so far, this one included. */
  attempts: number
  firstAttemptMs: number
  /** When this attempt's result was there: a gap begins at its end. */
  endedMs: number
  retryWindowSeconds: number
}

export type AfterAttempt = { status: 'delivered' } | { status: 'dead' } | { status: 'pending'; nextAttemptMs: number }

/** The retry window of a webhook that does not ask for more, in seconds. */
export const defaultRetryWindowSeconds = 15

/**
 * What comes after an attempt (contract §14). 2xx: delivered. 5xx, no answer in time, or none at all: again, 1, 2, 4, 5,
 * 5 … s after the attempt before has ended. Everything else is final: 4xx; 3xx too, because a redirect is not followed
 * and would be answered with the same redirect; and a delivery whose events the record no longer holds. A retry that would begin later than the window after the
 * first attempt began is not made: the delivery is dead at once. In the default window these are 0, 1, 3, 7 and 12 s.
 *
 * In a longer window the gaps go on doubling, 1, 2, 4, 8 … s, up to an hour; 408 and 429 are retried as well; and where
 * the receiver says `Retry-After`, the gap is at least that, but no longer than the window lasts.
 */
export function afterAttempt(result: AttemptResult, times: AttemptTimes): AfterAttempt {
  if (result.answered && result.status >= 200 && result.status < 300) return { status: 'delivered' }
  const isStretched = times.retryWindowSeconds > defaultRetryWindowSeconds
  if (!isRetried(result, isStretched)) return { status: 'dead' }

  const windowEndsMs = times.firstAttemptMs + times.retryWindowSeconds * 1_000
  const ownMs = times.endedMs + gapMs(times.attempts, isStretched)
  const askedMs = isStretched && result.answered ? retryAfterTime(result.retryAfter, times.endedMs) : 0
  const nextAttemptMs = Math.max(ownMs, Math.min(askedMs, windowEndsMs))
  return nextAttemptMs > windowEndsMs ? { status: 'dead' } : { status: 'pending', nextAttemptMs }
}

function isRetried(result: AttemptResult, isStretched: boolean): boolean {
  if (!result.answered) return result.failure !== 'events-removed'
  const { status } = result
  return status >= 500 || (isStretched && (status === 408 || status === 429))
}

/** The gap after the attempt with this number, the first being 1. */
function gapMs(attempt: number, isStretched: boolean): number {
  const longestMs = isStretched ? 3_600_000 : 5_000
  return Math.min(1_000 * 2 ** (attempt - 1), longestMs)
}

const httpDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/

/** The first moment that `Retry-After` allows (RFC 9110 §10.2.3: seconds, or a date); 0 where it names none. */
function retryAfterTime(header: string | null, nowMs: number): number {
  const text = header?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return nowMs + Number(text) * 1_000
  return httpDate.test(text) ? Date.parse(text) || 0 : 0
}
