import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { sampleEvent, sampleEvents, workspaceKeyEvent } from '../ledger/sample-event.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { openInstallation } from './installation.ts'
import { hang, startReceiver, status } from './receiver.ts'

/** Resolves once the next timer is `ms` away: what came before has been recorded. */
function nextTimer(clock: ManualClock, ms: number): Promise<true> {
  return until(() => clock.nextTimerMs() === ms)
}

test('a delivery is retried after 1, 2, 4 and 5 seconds to the millisecond, with the same bytes, and is then dead', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(503))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record(sampleEvents(3))

  for (const [index, gapMs] of [1_000, 2_000, 4_000, 5_000].entries()) {
    await nextTimer(clock, gapMs)
    clock.advance(gapMs - 1)
    assert.equal(clock.nextTimerMs(), 1)
    assert.equal(receiver.posts.length, index + 1)
    clock.advance(1)
    await until(() => receiver.posts.length === index + 2)
  }
  const [delivery] = await until(async () => {
    const deliveries = await installation.deliveries(webhook.id)
    return deliveries.every((one) => one.status === 'dead') && deliveries
  })
  assert.equal(delivery?.attempts, 5)
  assert.equal(delivery.response_status, 503)
  assert.equal(delivery.next_attempt_at, null)
  assert.equal((delivery.last_attempt_at ?? 0) - (delivery.first_attempt_at ?? 0), 12_000)
  const [first, ...others] = receiver.posts
  for (const post of others) {
    assert.deepEqual(post.body, first?.body)
    assert.equal(post.requestId, delivery.request_id)
    assert.equal(post.headers['webhook-id'], delivery.request_id)
  }
})

test('the schedule goes on after a restart where it was', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(500))
  {
    await using before = await openInstallation({ folder: folder.path, clock })
    await before.addWebhook({ url: receiver.url })
    await before.record([sampleEvent()])
    await nextTimer(clock, 1_000)
    clock.advance(1_000)
    await until(() => receiver.posts.length === 2)
    await nextTimer(clock, 2_000)
  }
  assert.equal(clock.nextTimerMs(), null)
  clock.advance(500)
  await using after = await openInstallation({ folder: folder.path, clock })
  await nextTimer(clock, 1_500)
  clock.advance(1_500)
  await until(() => receiver.posts.length === 3)
  await nextTimer(clock, 4_000)
  receiver.answer = status(200)
  clock.advance(4_000)
  const [delivery] = await until(async () => {
    const { queries } = after.database
    const rows = await queries.selectFrom('webhook_deliveries').selectAll().execute()
    return rows.every((row) => row.status === 'delivered') && rows
  })
  assert.equal(delivery?.attempts, 4)
  assert.equal(new Set(receiver.posts.map(({ requestId }) => requestId)).size, 1)
})

test('an attempt that the process did not live to see the end of is made again at the next start, at once', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(hang)
  {
    await using before = await openInstallation({ folder: folder.path, clock })
    await before.addWebhook({ url: receiver.url })
    await before.record([sampleEvent()])
    await until(() => receiver.posts.length === 1)
    const disposed = before[Symbol.asyncDispose]()
    await nextTimer(clock, 100)
    clock.advance(100)
    await disposed
  }
  receiver.answer = status(200)
  await using _after = await openInstallation({ folder: folder.path, clock })
  await until(() => receiver.posts.length === 2)
  assert.deepEqual(receiver.posts[1]?.body, receiver.posts[0]?.body)
  assert.equal(receiver.posts[1]?.requestId, receiver.posts[0]?.requestId)
})

test("a dead node's delivery is another's once its claim has run out, not a moment before, under the same request id", async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(hang)
  await using other = await openInstallation({ folder: folder.path, clock, isAlone: false })
  {
    await using dying = await openInstallation({ folder: folder.path, clock, isAlone: false })
    await dying.addWebhook({ url: receiver.url })
    await dying.record([sampleEvent()])
    await until(() => receiver.posts.length === 1)
    const disposed = dying[Symbol.asyncDispose]()
    await until(() => clock.nextTimerMs() === 100)
    clock.advance(100)
    await disposed
  }
  receiver.answer = status(200)
  const [claimed] = await other.database.queries.selectFrom('webhook_deliveries').selectAll().execute()
  const endsMs = (claimed?.claimed_until ?? 0) - clock.now()
  assert.ok(endsMs > 10_000, 'longer than an attempt may take')
  other.dispatcher.webhookChanged(String(claimed?.webhook_id))
  await nextTimer(clock, endsMs)
  clock.advance(endsMs - 1)
  assert.equal(receiver.posts.length, 1)
  clock.advance(1)
  await until(() => receiver.posts.length === 2)
  assert.equal(receiver.posts[1]?.requestId, receiver.posts[0]?.requestId)
})

test('events arrive in deliveries of at most 100, without a gap, each once, and calls with a workspace key not at all', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  for (let batch = 0; batch < 7; batch += 1) {
    await installation.record([...sampleEvents(40), workspaceKeyEvent(), ...sampleEvents(13), workspaceKeyEvent()])
  }
  await until(() => receiver.posts.flatMap(({ events }) => events).length >= 371)
  await until(async () => (await installation.deliveries(webhook.id)).every((one) => one.status === 'delivered'))

  const sequences = receiver.posts.flatMap(({ events }) => events.map(({ sequence }) => sequence))
  assert.deepEqual(
    sequences.toSorted((one, other) => one - other),
    Array.from({ length: 371 }, (_, index) => index + 1),
  )
  assert.equal(new Set(receiver.posts.map(({ requestId }) => requestId)).size, receiver.posts.length)
  for (const { events, body, headers } of receiver.posts) {
    assert.ok(events.length <= 100)
    for (const [index, { sequence }] of events.entries()) assert.equal(sequence, (events[0]?.sequence ?? 0) + index)
    assert.equal(headers['content-type'], 'application/json')
    assert.deepEqual(Object.keys(JSON.parse(body.toString())), ['type', 'data'])
  }
})

test('a backlog goes out in full deliveries', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  await installation.record(sampleEvents(950))
  await installation.addWebhook({ url: receiver.url })
  await until(() => receiver.posts.length === 10)
  assert.deepEqual(
    receiver.posts.map(({ events }) => events.length).toSorted((one, other) => one - other),
    [50, ...Array(9).fill(100)],
  )
})

test('ten thousand calls with a workspace key between two events keep neither from arriving', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  await installation.record([sampleEvent()])
  for (let batch = 0; batch < 21; batch += 1) {
    await installation.record(Array.from({ length: 500 }, () => workspaceKeyEvent()))
  }
  await installation.record([sampleEvent()])
  await installation.addWebhook({ url: receiver.url })
  await until(() => receiver.posts.flatMap(({ events }) => events).length === 2)
})

test('a webhook gets all that the record gets after its creation, whatever the clocks of the nodes say, and nothing from before', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  await installation.record(sampleEvents(2, { recordedAtMs: clock.now() }))
  await installation.addWebhook({ url: receiver.url, position: 2, created_at: clock.now() })
  await installation.record([
    ...sampleEvents(2, { recordedAtMs: clock.now() - 20_000 }),
    sampleEvent({ recordedAtMs: clock.now() }),
    sampleEvent({ recordedAtMs: clock.now() - 60_000 }),
  ])
  await until(() => receiver.posts.length === 1)
  assert.deepEqual(
    receiver.posts[0]?.events.map(({ sequence }) => sequence),
    [3, 4, 5, 6],
  )
})

test('every webhook of a workspace gets every event, and no webhook of another', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using one = await startReceiver()
  await using two = await startReceiver()
  await using other = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  await installation.addWebhook({ url: one.url })
  await installation.addWebhook({ url: two.url })
  await installation.addWebhook({ url: other.url, workspaceId: 'workspace-b' })
  const mine = sampleEvents(3)
  const theirs = sampleEvents(2, { workspaceId: 'workspace-b' })
  await installation.record([...mine, ...theirs])

  for (const [receiver, events] of [
    [one, mine],
    [two, mine],
    [other, theirs],
  ] as const) {
    await until(() => receiver.posts.flatMap(({ events }) => events).length >= events.length)
    assert.deepEqual(
      receiver.posts.flatMap((post) => post.events.map(({ idempotencyKey }) => idempotencyKey)),
      events.map(({ idempotencyKey }) => idempotencyKey),
    )
  }
})

test('receivers that hang or fail delay nobody else', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using installation = await openInstallation({ folder: folder.path, clock, attemptsMax: 12 })
  await using hanging = await startReceiver(hang)
  await using failing = await startReceiver(status(500))
  await using healthy = await startReceiver()
  for (const { url } of [hanging, failing]) await installation.addWebhook({ url })
  await installation.addWebhook({ url: healthy.url, workspaceId: 'workspace-b' })
  await installation.record([...sampleEvents(2_000), ...sampleEvents(1_500, { workspaceId: 'workspace-b' })])
  await until(() => healthy.posts.flatMap(({ events }) => events).length === 1_500)
  assert.equal(clock.monotonic(), 0)
  assert.ok(hanging.posts.length <= 4)
})

test('receivers of one workspace that all hang have a quarter of the attempts, and hold up no other workspace', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using installation = await openInstallation({ folder: folder.path, clock, attemptsMax: 16 })
  await using hanging = await startReceiver(hang)
  await using healthy = await startReceiver()
  for (let webhook = 0; webhook < 20; webhook += 1) await installation.addWebhook({ url: hanging.url })
  await installation.addWebhook({ url: healthy.url, workspaceId: 'workspace-b' })
  await installation.record([sampleEvent()])
  await until(() => hanging.posts.length === 4)
  for (let round = 1; round <= 5; round += 1) {
    await installation.record([sampleEvent(), sampleEvent({ workspaceId: 'workspace-b' })])
    await until(() => healthy.posts.length === round)
  }
  assert.equal(clock.monotonic(), 0)
  assert.equal(hanging.posts.length, 4)

  // Their time is up: those that waited are next, each in its turn.
  const webhookOf = new Map(
    (await installation.database.queries.selectFrom('webhook_deliveries').selectAll().execute()).map(
      ({ request_id, webhook_id }) => [request_id, webhook_id],
    ),
  )
  clock.advance(10_000)
  await until(() => hanging.posts.length === 8)
  const deliveries = await installation.database.queries.selectFrom('webhook_deliveries').selectAll().execute()
  for (const { request_id, webhook_id } of deliveries) webhookOf.set(request_id, webhook_id)
  assert.equal(new Set(hanging.posts.map(({ requestId }) => webhookOf.get(requestId))).size, 8)
})

test('a wall clock that is set back an hour holds up neither a retry nor new events', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(503))
  await using installation = await openInstallation({ folder: folder.path, clock })
  await installation.addWebhook({ url: receiver.url })
  await installation.record([sampleEvent()])
  await nextTimer(clock, 1_000)
  clock.jumpTo(clock.now() - 3_600_000)
  receiver.answer = status(200)
  await installation.record([sampleEvent()])
  clock.advance(1_000)
  await until(() => receiver.posts.length === 3)
  assert.deepEqual(receiver.posts.map(({ events }) => events[0]?.sequence).toSorted(), [1, 1, 2])
  assert.equal(clock.monotonic(), 1_000)
})

test('a range that its receiver fails on holds up none of the events after it', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver((post, response) => {
    response.writeHead(post.events.some(({ sequence }) => sequence === 1) ? 500 : 200).end()
  })
  await using installation = await openInstallation({ folder: folder.path, clock })
  await installation.addWebhook({ url: receiver.url })
  await installation.record(sampleEvents(1_000))
  await until(() => receiver.posts.filter(({ events }) => events[0]?.sequence !== 1).length === 9)
  assert.equal(clock.monotonic(), 0)
})

test('a receiver that fails is tried with new events once a second, and its backlog waits in the record', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(500))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record([sampleEvent()])
  await nextTimer(clock, 1_000)
  for (let batch = 0; batch < 20; batch += 1) await installation.record(sampleEvents(20))
  clock.advance(999)
  assert.equal((await installation.deliveries(webhook.id)).length, 1)
  clock.advance(1)
  await until(() => receiver.posts.length === 3)
  // The first is tried again at the moment at which the next may begin: either may arrive first.
  const lengths = receiver.posts.map(({ events }) => events.length)
  assert.deepEqual(
    lengths.toSorted((one, other) => one - other),
    [1, 1, 100],
  )
  receiver.answer = status(200)
  clock.advance(1_000)
  await until(() => receiver.posts.flatMap(({ events }) => events).length >= 402)
})

test('a receiver that fails is given no new events while a thousand deliveries wait for it', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(500))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url, retry_window_seconds: 3_600 })
  await installation.record([sampleEvent()])
  const [delivery] = await until(async () => {
    const deliveries = await installation.deliveries(webhook.id)
    return deliveries[0]?.attempts === 1 && deliveries
  })
  assert.ok(delivery)
  const waiting = Array.from({ length: 1_000 }, (_, index) => ({
    ...delivery,
    id: `waiting-${index}`,
    next_attempt_at: clock.now() + 3_000_000,
  }))
  for (let start = 0; start < waiting.length; start += 250) {
    const rows = waiting.slice(start, start + 250)
    await installation.database.queries.insertInto('webhook_deliveries').values(rows).execute()
  }
  await installation.record([sampleEvent()])
  clock.advance(1_000)
  await until(async () => (await installation.deliveries(webhook.id))[0]?.attempts === 2)
  assert.equal((await installation.deliveries(webhook.id)).length, 1_001)

  receiver.answer = status(200)
  clock.advance(2_000)
  await until(() => receiver.posts.some(({ events }) => events[0]?.sequence === 2))
})

test('a webhook for which there was no room gets its events as soon as there is', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using installation = await openInstallation({
    folder: folder.path,
    clock,
    attemptsMax: 2,
    workspaceAttemptsMax: 2,
  })
  await using hanging = await startReceiver(hang)
  await using healthy = await startReceiver()
  await installation.addWebhook({ url: hanging.url })
  await installation.addWebhook({ url: hanging.url })
  await installation.record([sampleEvent()])
  await until(() => hanging.posts.length === 2)
  await installation.addWebhook({ url: healthy.url, workspaceId: 'workspace-b' })
  await installation.addWebhook({ url: healthy.url, workspaceId: 'workspace-b' })
  await installation.record(sampleEvents(150, { workspaceId: 'workspace-b' }))
  clock.advance(10_000)
  await until(() => healthy.posts.flatMap(({ events }) => events).length === 300)
})

test('a 4xx is final: the delivery is dead at once, and the next one is made', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(404))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record([sampleEvent()])
  await until(async () => (await installation.deliveries(webhook.id))[0]?.status === 'dead')
  receiver.answer = status(204)
  await installation.record([sampleEvent()])
  await nextTimer(clock, 1_000)
  clock.advance(1_000)
  await until(async () => (await installation.deliveries(webhook.id))[1]?.status === 'delivered')
  assert.equal(receiver.posts.length, 2)
})

test('a receiver that does not answer within 10 seconds is tried again a second later', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(hang)
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record([sampleEvent()])
  await until(() => receiver.posts.length === 1)
  assert.equal(clock.nextTimerMs(), 10_000)
  clock.advance(10_000)
  await nextTimer(clock, 1_000)
  const [delivery] = await installation.deliveries(webhook.id)
  assert.equal(delivery?.status, 'pending')
  assert.equal(delivery.error, 'timeout')
  receiver.answer = status(200)
  clock.advance(1_000)
  await until(async () => (await installation.deliveries(webhook.id))[0]?.status === 'delivered')
})

test('what came of an attempt is kept once the database is back, and the attempt is not made again', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  const answer = Promise.withResolvers<void>()
  await using receiver = await startReceiver((_post, response) => {
    void answer.promise.then(() => response.end())
  })
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record([sampleEvent()])
  await until(() => receiver.posts.length === 1)

  const { schema } = installation.database.queries
  await schema.alterTable('webhook_deliveries').renameTo('away').execute()
  answer.resolve()
  await nextTimer(clock, 1_000)
  await schema.alterTable('away').renameTo('webhook_deliveries').execute()
  assert.equal((await installation.deliveries(webhook.id))[0]?.status, 'pending')
  clock.advance(1_000)
  await until(async () => (await installation.deliveries(webhook.id))[0]?.status === 'delivered')
  assert.equal(receiver.posts.length, 1)
})

test('a delivery whose events are gone from the record is dead, and says why', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(500))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record(sampleEvents(5))
  await nextTimer(clock, 1_000)
  await installation.database.queries.deleteFrom('events').where('sequence', '=', 3).execute()
  clock.advance(1_000)
  await until(async () => (await installation.deliveries(webhook.id))[0]?.status === 'dead')
  assert.equal((await installation.deliveries(webhook.id))[0]?.error, 'events-removed')
  assert.equal(receiver.posts.length, 1)
})

test('the secret before a rotation signs beside the new one until its time is over', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock(Date.now())
  await using receiver = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  const { id, secret, sealed_secret } = await installation.addWebhook({ url: receiver.url })
  await installation.database.queries
    .updateTable('webhooks')
    .set({ sealed_previous_secret: sealed_secret, previous_secret_until: clock.now() + 60_000 })
    .where('id', '=', id)
    .execute()
  const signatures = () => receiver.posts.map(({ headers }) => String(headers['webhook-signature']).split(' ').length)
  const deliver = async (nth: number) => {
    await installation.record([sampleEvent()])
    // Kept before the clock jumps: a claim that runs out has the delivery made again.
    await until(async () => {
      const deliveries = await installation.deliveries(id)
      return deliveries.length === nth && deliveries.every(({ status }) => status === 'delivered')
    })
  }

  await deliver(1)
  clock.advance(59_999)
  await deliver(2)
  clock.advance(1)
  await deliver(3)
  assert.deepEqual(signatures(), [2, 2, 1])
  const [post] = receiver.posts
  assert.doesNotThrow(() => new Webhook(secret).verify(post?.body ?? '', post?.headers as Record<string, string>))
})

test('what a deleted webhook left behind is removed, and nothing more is sent to it', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver()
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  const kept = await installation.addWebhook({ url: receiver.url })
  for (let batch = 0; batch < 3; batch += 1) await installation.record(sampleEvents(500))
  await until(() => receiver.posts.flatMap(({ events }) => events).length === 3_000)
  const { queries } = installation.database
  await queries.updateTable('webhooks').set({ deleted_at: clock.now() }).where('id', '=', webhook.id).execute()
  await installation.record(sampleEvents(10))
  await until(() => receiver.posts.flatMap(({ events }) => events).length === 3_010)
  clock.advance(30_000)
  await until(async () => (await queries.selectFrom('webhooks').select('id').execute()).length === 1)
  assert.deepEqual(await installation.deliveries(webhook.id), [])
  assert.notDeepEqual(await installation.deliveries(kept.id), [])
})

test('metrics tell what is pending, what came of attempts, and that something is dead', async () => {
  using folder = temporaryFolder()
  const clock = new ManualClock()
  await using receiver = await startReceiver(status(500))
  await using installation = await openInstallation({ folder: folder.path, clock })
  const webhook = await installation.addWebhook({ url: receiver.url })
  await installation.record(sampleEvents(250))
  await until(async () => (await installation.deliveries(webhook.id)).filter((one) => one.attempts === 1).length === 3)
  const page = () => installation.metrics.registry.metrics()
  assert.match(await page(), /^tollgate_webhook_events_pending 250$/m)
  assert.match(await page(), /^tollgate_webhooks_with_dead_deliveries 0$/m)

  receiver.answer = (post, response) => response.writeHead(post.events[0]?.sequence === 1 ? 410 : 200).end()
  clock.advance(1_000)
  await until(async () => /^tollgate_webhook_events_pending 0$/m.test(await page()))
  assert.match(await page(), /^tollgate_webhooks_with_dead_deliveries 1$/m)
  assert.match(await page(), /^tollgate_webhook_events_ended_total\{status="dead"\} 100$/m)
  assert.match(await page(), /^tollgate_webhook_events_ended_total\{status="delivered"\} 150$/m)
  assert.match(await page(), /^tollgate_webhook_attempts_total\{outcome="4xx"\} 1$/m)
})
