import type { Queries, Transaction } from '../storage/database.ts'
import type { WebhookDeliveryRow } from '../storage/tables.ts'
import type { FinishedAttempt } from './attempt.ts'

export interface Claims {
  claimed: WebhookDeliveryRow[]
  /** After how long the next of the others is due; null where no other is pending. */
  nextDueAfterMs: number | null
}

/** How long a claim holds: longer than an attempt takes, with what goes before and after it. */
export const claimMs = 30_000

/** The clocks of nodes agree to within this. */
const clocksApartMs = 20_000

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
  const due = earliest.filter((delivery) => dueAfterMs(delivery, nowMs) === 0).slice(0, max)
  const others = earliest.filter((delivery) => !due.includes(delivery))
  const claimed: WebhookDeliveryRow[] = []
  for (const { id, first_attempt_at, claimed_until, next_attempt_at } of due) {
    // Another node may have been first, between our looking and this.
    const delivery = await queries
      .updateTable('webhook_deliveries')
      .set({ claimed_until: claimedUntilMs, first_attempt_at: first_attempt_at ?? nowMs })
      .where('id', '=', id)
      .where('status', '=', 'pending')
      .where('claimed_until', 'is not distinct from', claimed_until)
      .where('next_attempt_at', 'is not distinct from', next_attempt_at)
      .returningAll()
      .executeTakeFirst()
    if (delivery !== undefined) claimed.push(delivery)
  }
  const waits = others.map((delivery) => dueAfterMs(delivery, nowMs))
  return { claimed, nextDueAfterMs: waits.length === 0 ? null : Math.min(...waits) }
}

/**
 * After how long a pending delivery is due. Its times are of the wall clock, which may have been ahead and set right
 * since. A claim that would hold longer than any claim does is therefore none, and there is no waiting after an attempt
 * that is yet to be made.
 */
function dueAfterMs(
  { claimed_until, next_attempt_at, last_attempt_at, attempts }: WebhookDeliveryRow,
  nowMs: number,
): number {
  const claimedForMs = (claimed_until ?? nowMs) - nowMs
  if (claimedForMs > 0 && claimedForMs <= claimMs + clocksApartMs) return claimedForMs
  const waits = attempts > 0 && (last_attempt_at ?? nowMs) <= nowMs + clocksApartMs
  return waits ? Math.max(0, (next_attempt_at ?? nowMs) - nowMs) : 0
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
