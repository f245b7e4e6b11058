import assert from 'node:assert/strict'
import { test } from 'node:test'
import { claimDueDeliveries, recordAttempt } from '../../src/delivery/delivery-claims.ts'
import { sampleEvent, sampleEvents } from '../ledger/sample-event.ts'
import { temporaryFolder } from '../ledger/temporary-folder.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'
import { openInstallation } from './installation.ts'
import { startReceiver, status } from './receiver.ts'

const claimMs = 30_000

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
