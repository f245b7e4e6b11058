import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AttemptResult, afterAttempt } from '../../src/delivery/schedule.ts'

const startMs = Date.parse('2026-01-15T12:00:00.000Z')

/** When a delivery is attempted, in seconds since its first attempt, if every attempt ends as `result` after `tookMs`. */
function attemptTimes(
  result: AttemptResult,
  { retryWindowSeconds = 15, tookMs = 0 }: { retryWindowSeconds?: number; tookMs?: number } = {},
): number[] {
  const seconds: number[] = []
  for (let nowMs = startMs; ; ) {
    seconds.push((nowMs - startMs) / 1_000)
    const after = afterAttempt(result, {
      attempts: seconds.length,
      firstAttemptMs: startMs,
      endedMs: nowMs + tookMs,
      retryWindowSeconds,
    })
    if (after.status !== 'pending') return seconds
    nowMs = after.nextAttemptMs
  }
}

const answered = (status: number, retryAfter: string | null = null): AttemptResult => ({
  answered: true,
  status,
  retryAfter,
})

function statusAfter(result: AttemptResult, retryWindowSeconds = 15): string {
  return afterAttempt(result, { attempts: 1, firstAttemptMs: startMs, endedMs: startMs, retryWindowSeconds }).status
}

test('a receiver that keeps failing is tried at 0, 1, 3, 7 and 12 seconds', () => {
  const expected = [0, 1, 3, 7, 12]
  assert.deepEqual(attemptTimes(answered(500)), expected)
  assert.deepEqual(attemptTimes(answered(599)), expected)
  assert.deepEqual(attemptTimes({ answered: false, failure: 'unreachable' }), expected)
  assert.deepEqual(attemptTimes({ answered: false, failure: 'timeout' }), expected)
})

test('a gap begins when the attempt before has ended', () => {
  assert.deepEqual(attemptTimes(answered(500), { tookMs: 2_000 }), [0, 3, 7, 13])
  assert.deepEqual(attemptTimes({ answered: false, failure: 'timeout' }, { tookMs: 10_000 }), [0, 11])
})

test('a retry exactly at the end of the window is made, and one a millisecond later is not', () => {
  const times = { attempts: 1, firstAttemptMs: startMs, retryWindowSeconds: 15 }
  assert.deepEqual(afterAttempt(answered(500), { ...times, endedMs: startMs + 14_000 }), {
    status: 'pending',
    nextAttemptMs: startMs + 15_000,
  })
  assert.deepEqual(afterAttempt(answered(500), { ...times, endedMs: startMs + 14_001 }), { status: 'dead' })
})

test('every 2xx is delivered', () => {
  for (const code of [200, 201, 202, 204, 299]) assert.equal(statusAfter(answered(code)), 'delivered')
})

test('every 4xx, and every redirect, is final at once in the default window', () => {
  for (const code of [300, 301, 302, 307, 308, 400, 401, 404, 408, 410, 422, 429, 499]) {
    assert.equal(statusAfter(answered(code, '1')), 'dead', String(code))
  }
})

test('in a longer window 408 and 429 are retried, and other 4xx and redirects are still final', () => {
  for (const code of [408, 429]) assert.equal(statusAfter(answered(code), 16), 'pending')
  for (const code of [301, 400, 401, 403, 404, 409, 410, 422])
    assert.equal(statusAfter(answered(code), 604_800), 'dead')
})

test('in a longer window gaps go on doubling, up to an hour, until the window ends', () => {
  assert.deepEqual(attemptTimes(answered(503), { retryWindowSeconds: 60 }), [0, 1, 3, 7, 15, 31])
  const week = attemptTimes(answered(503), { retryWindowSeconds: 604_800 })
  const gaps = week.slice(1).map((time, index) => time - (week[index] ?? 0))
  assert.deepEqual(gaps.slice(0, 14), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600])
  const last = week.at(-1) ?? 0
  assert.ok(last <= 604_800 && last > 604_800 - 3_600)
})

test('in a longer window Retry-After makes a gap longer, in seconds or as a date, and never shorter', () => {
  const next = (retryAfter: string, retryWindowSeconds = 3_600) => {
    const after = afterAttempt(answered(429, retryAfter), {
      attempts: 3,
      firstAttemptMs: startMs - 3_000,
      endedMs: startMs,
      retryWindowSeconds,
    })
    return after.status === 'pending' ? after.nextAttemptMs - startMs : after.status
  }
  assert.equal(next('30'), 30_000)
  assert.equal(next('Thu, 15 Jan 2026 12:01:30 GMT'), 90_000)
  assert.equal(next('1'), 4_000)
  assert.equal(next('Thu, 15 Jan 2026 11:59:00 GMT'), 4_000)
  for (const nonsense of ['soon', '-5', '1.5', 'Thu', '']) assert.equal(next(nonsense), 4_000, nonsense)
})

test('a Retry-After beyond the window is waited for until the window ends, where the last attempt is made', () => {
  assert.deepEqual(attemptTimes(answered(503, '86400'), { retryWindowSeconds: 120 }), [0, 120])
})

test('Retry-After changes nothing in the default window', () => {
  assert.deepEqual(attemptTimes(answered(503, '30')), [0, 1, 3, 7, 12])
})

test('a delivery whose events the record no longer holds is final', () => {
  assert.equal(statusAfter({ answered: false, failure: 'events-removed' }, 604_800), 'dead')
})
