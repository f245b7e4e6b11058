import { randomUUID } from 'node:crypto'
import type { WebhookRow } from '../storage/tables.ts'
import { type AttemptParts, sendSigned } from './attempt.ts'
import { testBody } from './payload.ts'
import type { AttemptResult } from './schedule.ts'

export interface TestAnswer {
  requestId: string
  result: AttemptResult
  tookMs: number
}

/** Sends a webhook a signed event that nobody can bill, now and once, and says what came of it. Nothing of it is kept. */
export async function sendTestEvent(webhook: WebhookRow, parts: Omit<AttemptParts, 'queries'>): Promise<TestAnswer> {
  const { clock } = parts
  const requestId = randomUUID()
  const startedMs = clock.monotonic()
  const body = testBody({ requestId, nowMs: clock.now() })
  const result = await sendSigned({ webhook, requestId, body }, parts)
  return { requestId, result, tookMs: Math.round(clock.monotonic() - startedMs) }
}
