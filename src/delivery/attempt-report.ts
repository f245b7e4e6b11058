import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { FinishedAttempt } from './attempt.ts'

export interface ReportParts {
  log: Log
  metrics: Pick<Metrics, 'webhookAttempted' | 'webhookDeliveryEnded'>
}

/** Tells metrics and log of an attempt, and of the end of a delivery. */
export function reportAttempt({ delivery, result, after }: FinishedAttempt, { log, metrics }: ReportParts): void {
  const outcome = result.answered ? `${Math.floor(result.status / 100)}xx` : result.failure
  metrics.webhookAttempted({ outcome })
  if (after.status === 'pending') return
  const events = delivery.last_sequence - delivery.first_sequence + 1
  metrics.webhookDeliveryEnded({ status: after.status, events })
  if (after.status === 'dead') {
    const { id, webhook_id } = delivery
    log.warn(
      { webhookId: webhook_id, deliveryId: id, events, outcome },
      'a delivery is dead until it is asked for again',
    )
  }
}
