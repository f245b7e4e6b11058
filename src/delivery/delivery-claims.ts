import type { Queries, Transaction } from '../storage/database.ts'
import type { WebhookDeliveryRow } from '../storage/tables.ts'
import type { FinishedAttempt } from './attempt.ts'

export interface Claims {
  claimed: WebhookDeliveryRow[]
  /** When the next of the others is due; null where no other is pending. */
  nextDueMs: number | null
}

/** A webhook never has as many deliveries under way, so the first ones behind those are seen as well. */
const lookedPastMax = 16

/**
 * Takes up to `max` of a webhook's pending deliveries that are due, the longest due first: until `claimedUntilMs` they
 * are the caller's, and nobody else's. A claim that has run out is one whose node has died.
 */
export async function claimDueDeliveries(
  webhookId: string,
  { queries }: Transaction,
  { max, nowMs, claimedUntilMs }: { max: number; nowMs: number; claimedUntilMs: number },
): Promise<Claims> {
  const earliest = await queries
    .selectFrom('webhook_deliveries')
    .selectAll()
    .where('webhook_id', '=', webhookId)
    .where('status', '=', 'pending')
    .orderBy('next_attempt_at')
    .limit(max + lookedPastMax)
    .execute()
  const due = earliest.filter((delivery) => dueAt(delivery, nowMs) <= nowMs).slice(0, max)
  const others = earliest.filter((delivery) => !due.includes(delivery))
  const claimed: WebhookDeliveryRow[] = []
  for (const { id, first_attempt_at } of due) {
    // Another node may have been first, between our looking and this.
    const delivery = await queries
      .updateTable('webhook_deliveries')
      .set({ claimed_until: claimedUntilMs, first_attempt_at: first_attempt_at ?? nowMs })
      .where('id', '=', id)
      .where('status', '=', 'pending')
      .where((eb) => eb.or([eb('claimed_until', 'is', null), eb('claimed_until', '<=', nowMs)]))
      .where('next_attempt_at', '<=', nowMs)
      .returningAll()
      .executeTakeFirst()
    if (delivery !== undefined) claimed.push(delivery)
  }
  const nextDueMs = others.length === 0 ? null : Math.min(...others.map((delivery) => dueAt(delivery, nowMs)))
  return { claimed, nextDueMs }
}

function dueAt({ claimed_until, next_attempt_at }: WebhookDeliveryRow, nowMs: number): number {
  const isUnderWay = claimed_until !== null && claimed_until > nowMs
  return isUnderWay ? claimed_until : (next_attempt_at ?? nowMs)
}

/**
 * Keeps what came of an attempt, and ends its claim. Where the claim had run out and another node has taken the delivery
 * over, what comes of that node's attempt counts.
 */
export async function recordAttempt(
  { delivery, startedMs, endedMs, result, after }: FinishedAttempt,
  { queries }: Transaction,
): Promise<void> {
  await queries
    .updateTable('webhook_deliveries')
    .set({
      status: after.status,
      attempts: delivery.attempts + 1,
      last_attempt_at: startedMs,
      next_attempt_at: after.status === 'pending' ? after.nextAttemptMs : null,
      claimed_until: null,
      finished_at: after.status === 'pending' ? null : endedMs,
      response_status: result.answered ? result.status : null,
      error: result.answered ? null : result.failure,
    })
    .where('id', '=', delivery.id)
    .where('claimed_until', '=', delivery.claimed_until)
    .execute()
}

/** Ends all claims: at the start of the only node that there is, whoever held one is gone. */
export async function releaseClaims(queries: Queries): Promise<void> {
  await queries
    .updateTable('webhook_deliveries')
    .set({ claimed_until: null })
    .where('status', '=', 'pending')
    .where('claimed_until', 'is not', null)
    .execute()
}
