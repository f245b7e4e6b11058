import assert from 'node:assert/strict'
import { test } from 'node:test'
import { claimDueDeliveries, claimMs, recordAttempt } from '../../src/delivery/delivery-claims.ts'
import type { WebhookDeliveryRow } from '../../src/storage/tables.ts'
import { sampleEvent, sampleEvents } from '../ledger/sample-event.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { openInstallation } from './installation.ts'
import { startReceiver, status } from './receiver.ts'

test('of two nodes that want the same deliveries at once, each delivery goes to one of them', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(503))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url, retry_window_seconds: 600 })
  await installation.record(sampleEvents(400))
  await until(async () => {
    const deliveries = await installation.deliveries(webhook.id)
    return deliveries.length === 4 && deliveries.every(({ attempts }) => attempts === 1)
  })
  await installation[Symbol.asyncDispose]()

  await using one = await openTestDatabase(folder.path)
  await using other = await openTestDatabase(folder.path)
  const nowMs = clock.now() + 600_000
  const claims = await Promise.all(
    [one, other, one, other].map((database) =>
      database.transaction((transaction) =>
        claimDueDeliveries(webhook.id, transaction, { max: 4, nowMs, claimedUntilMs: nowMs + claimMs }),
      ),
    ),
  )
  const ids = claims.flatMap(({ claimed }) => claimed.map(({ id }) => id))
  assert.equal(ids.length, 4)
  assert.equal(new Set(ids).size, 4)
})

test('what comes of an attempt whose claim has run out does not end the claim of the node that took it over', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(503))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record([sampleEvent()])
  await until(async () => (await installation.deliveries(webhook.id))[0]?.attempts === 1)
  const { database } = installation
  const claimAt = async (nowMs: number) => {
    const { claimed } = await database.transaction((transaction) =>
      claimDueDeliveries(webhook.id, transaction, { max: 1, nowMs, claimedUntilMs: nowMs + claimMs }),
    )
    return claimed[0]
  }
  const late = await claimAt(clock.now() + 2_000)
  assert.ok(late)
  const lateEndsMs = late.claimed_until ?? 0
  assert.equal(await claimAt(lateEndsMs - 1), undefined)
  const taken = await claimAt(lateEndsMs)
  assert.ok(taken)
  const result = { answered: false, failure: 'timeout' } as const
  const finished = {
    delivery: late,
    startedMs: lateEndsMs,
    endedMs: lateEndsMs,
    result,
    after: { status: 'dead' },
  } as const
  await database.transaction((transaction) => recordAttempt(finished, transaction))
  const [delivery] = await installation.deliveries(webhook.id)
  assert.deepEqual([delivery?.status, delivery?.claimed_until], ['pending', taken.claimed_until])
})

test('no delivery waits for a time that a clock an hour ahead has set, and each does for a node 20 seconds ahead', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(503))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url, retry_window_seconds: 604_800 })
  await installation.record([sampleEvent()])
  await until(async () => (await installation.deliveries(webhook.id))[0]?.attempts === 1)
  const { database } = installation
  await installation.dispatcher[Symbol.asyncDispose]()
  const nowMs = clock.now() + 86_400_000
  const claim = () =>
    database.transaction((transaction) =>
      claimDueDeliveries(webhook.id, transaction, { max: 1, nowMs, claimedUntilMs: nowMs + claimMs }),
    )
  const claimWhere = async (fields: Partial<WebhookDeliveryRow>) => {
    await database.queries
      .updateTable('webhook_deliveries')
      .set({ claimed_until: null, ...fields })
      .execute()
    const { claimed, nextDueAfterMs } = await claim()
    return claimed.length === 1 ? 'claimed' : nextDueAfterMs
  }
  const hourMs = 3_600_000
  const waits = { last_attempt_at: nowMs - 1_000, next_attempt_at: nowMs + 1_000 }
  assert.equal(await claimWhere({ claimed_until: nowMs + 20_000 + claimMs, ...waits }), 20_000 + claimMs)
  assert.equal(await claimWhere({ claimed_until: nowMs + hourMs, ...waits }), 1_000)
  assert.equal(await claimWhere({ last_attempt_at: nowMs + 20_000, next_attempt_at: nowMs + 21_000 }), 21_000)
  assert.equal(
    await claimWhere({ last_attempt_at: nowMs + hourMs, next_attempt_at: nowMs + hourMs + 1_000 }),
    'claimed',
  )
  assert.equal(await claimWhere({ last_attempt_at: nowMs, next_attempt_at: nowMs + 604_800_000 }), 604_800_000)
  assert.equal(await claimWhere({ attempts: 0, next_attempt_at: nowMs + hourMs }), 'claimed')
})
