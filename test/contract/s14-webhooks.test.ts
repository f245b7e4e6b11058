import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Webhook as Verifier } from 'standardwebhooks'
import { type ReceivedPost, type Receiver, startReceiver, status } from '../delivery/receiver.ts'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { until } from '../support/until.ts'

interface Webhook {
  id: string
  url: string
  retry_window_seconds: number
  previous_secret_until: string | null
  signing_secret?: string
}

interface Delivery {
  id: string
  request_id: string
  status: string
  attempts: number
  event_count: number
  first_sequence: number
  response_status: number | null
}

interface Page<Item> {
  items: Item[]
  pagination: { has_more: boolean; cursor: string | null }
}

/** Contract §14: billing webhooks. */
describe('webhooks', () => {
  const path = '/v1/gateway/webhooks'
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
    customer = await gateway.customer({})
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  /** A webhook of this test alone: it is deleted when the test ends. */
  async function webhookAt(url: string, fields: object = {}): Promise<Required<Webhook> & AsyncDisposable> {
    const webhook = await gateway.manage<Required<Webhook>>('POST', path, { url, ...fields })
    return {
      ...webhook,
      async [Symbol.asyncDispose]() {
        await send('DELETE', `${path}/${webhook.id}`)
      },
    }
  }

  function send(method: string, url: string, body?: object, key = gateway.workspaceKey): Promise<Response> {
    return fetch(gateway.management + url, {
      method,
      headers: { authorization: `Api-Key ${key}`, ...(body && { 'content-type': 'application/json' }) },
      body: body === undefined ? null : JSON.stringify(body),
    })
  }

  async function call(times = 1): Promise<void> {
    for (let made = 0; made < times; made += 1) await (await gateway.infer(customer.key, chat())).text()
  }

  async function deliveries(id: string, query = ''): Promise<Delivery[]> {
    return (await gateway.manage<Page<Delivery>>('GET', `${path}/${id}/deliveries?${query}`)).items
  }

  /** The deliveries, once there are `count` of this status. Asks less often than a key may. */
  function awaitDeliveries(id: string, wanted: 'delivered' | 'dead', count = 1): Promise<Delivery[]> {
    return until(async () => {
      await delay(20)
      const found = await deliveries(id, `status=${wanted}`)
      return found.length === count && found
    })
  }

  function verify(secret: string, { body, headers }: ReceivedPost): void {
    new Verifier(secret).verify(body, headers as Record<string, string>)
    const mac = createHmac('sha256', secret).update(body).digest('hex')
    assert.ok(String(headers['x-baseten-signature']).split(',').includes(`v1=${mac}`))
  }

  function sequences(receiver: Receiver): number[] {
    return receiver.posts.flatMap(({ events }) => events.map(({ sequence }) => sequence))
  }

  test('are sent the event of every call from then on, as it stands in the record, signed with the secret that was shown', async () => {
    await call()
    await using receiver = await startReceiver()
    await using webhook = await webhookAt(receiver.url)
    const before = new Date().toISOString()
    await call(3)
    await until(() => sequences(receiver).length >= 3)
    const record = await gateway.manage<Page<{ type: string }>>('GET', `/v1/gateway/events?start_time=${before}`)
    assert.deepEqual(
      receiver.posts.flatMap(({ events }) => events),
      record.items.map(({ type: _type, ...event }) => event),
    )
    for (const post of receiver.posts) {
      verify(webhook.signing_secret, post)
      assert.match(post.requestId, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
      const changed = { ...post, body: Buffer.from(post.body.toString().replace('"inputTokens":', '"inputTokens":1')) }
      assert.throws(() => verify(webhook.signing_secret, changed))
    }
  })

  test('show their secret when it is made, and never again', async () => {
    await using webhook = await webhookAt('https://billing.example.com/hook')
    assert.match(webhook.signing_secret, /^whsec_/)
    const rotated = await gateway.manage<Required<Webhook>>('POST', `${path}/${webhook.id}/rotate_secret`)
    assert.notEqual(rotated.signing_secret, webhook.signing_secret)
    const texts = [
      await (await send('GET', path)).text(),
      await (await send('GET', `${path}/${webhook.id}`)).text(),
      await (await send('PATCH', `${path}/${webhook.id}`, { retry_window_seconds: 60 })).text(),
      await (await send('GET', `${path}/${webhook.id}/deliveries`)).text(),
    ]
    for (const text of texts) assert.doesNotMatch(text, /whsec_|signing_secret/)
  })

  test('sign with both secrets after a rotation, for 24 hours by their own account', async () => {
    await using receiver = await startReceiver()
    await using webhook = await webhookAt(receiver.url)
    const rotated = await gateway.manage<Required<Webhook>>('POST', `${path}/${webhook.id}/rotate_secret`)
    await call()
    const [post] = await until(() => receiver.posts.length > 0 && receiver.posts)
    assert.ok(post)
    verify(webhook.signing_secret, post)
    verify(rotated.signing_secret, post)
    assert.equal(String(post.headers['x-baseten-signature']).split(',').length, 2)
    const hours = (Date.parse(rotated.previous_secret_until ?? '') - Date.now()) / 3_600_000
    assert.ok(hours > 23.9 && hours <= 24)
  })

  test('go to https, or to http on this machine, and never to link-local or metadata addresses', async () => {
    const refused = [
      'http://billing.example.com/hook',
      'http://10.0.0.5/hook',
      'http://0.0.0.0/hook',
      'http://localhost.example.com/',
      'https://169.254.169.254/latest/meta-data',
      'https://[fe80::1]/',
      'https://[::ffff:169.254.169.254]/',
      'https://2852039166/',
      'https://metadata.google.internal/computeMetadata/v1/',
      'https://user:password@billing.example.com/',
      'https://billing.example.com/#part',
      'ftp://127.0.0.1/',
      'file:///etc/passwd',
      'billing.example.com',
      '',
    ]
    for (const url of refused) {
      const response = await send('POST', path, { url })
      assert.equal(response.status, 400, url)
      assert.equal(((await response.json()) as { details: { path: string }[] }).details[0]?.path, 'url')
    }
    for (const url of [
      'https://10.0.0.5:8443/hook?tenant=1',
      'http://[::1]:9000/',
      'http://localhost:9000/',
      'http://127.9.9.9/',
    ]) {
      await using webhook = await webhookAt(url)
      assert.equal(webhook.url, url)
      assert.equal((await send('PATCH', `${path}/${webhook.id}`, { url: 'http://10.0.0.5/' })).status, 400)
    }
  })

  test('are retried for 15 seconds, or for as long as they say, up to a week', async () => {
    await using webhook = await webhookAt('https://billing.example.com/hook')
    assert.equal(webhook.retry_window_seconds, 15)
    for (const retry_window_seconds of [14, 604_801, 60.5, '60', null]) {
      assert.equal((await send('POST', path, { url: webhook.url, retry_window_seconds })).status, 400)
      assert.equal((await send('PATCH', `${path}/${webhook.id}`, { retry_window_seconds })).status, 400)
    }
    assert.equal((await send('PATCH', `${path}/${webhook.id}`, {})).status, 400)
    const changed = await gateway.manage<Webhook>('PATCH', `${path}/${webhook.id}`, { retry_window_seconds: 604_800 })
    assert.equal(changed.retry_window_seconds, 604_800)
    assert.deepEqual(await gateway.manage('GET', `${path}/${webhook.id}`), changed)
  })

  test('can be tested: the receiver gets a signed event that nobody can bill, and its answer is told', async () => {
    await using receiver = await startReceiver(status(503))
    await using webhook = await webhookAt(receiver.url)
    const test = () => gateway.manage('POST', `${path}/${webhook.id}/test`)
    const failed = await test()
    assert.deepEqual([failed['delivered'], failed['response_status'], failed['error']], [false, 503, null])
    receiver.answer = status(200)
    const delivered = await test()
    assert.deepEqual([delivered['delivered'], delivered['response_status']], [true, 200])

    const [, post] = receiver.posts
    assert.ok(post)
    verify(webhook.signing_secret, post)
    assert.equal(post.requestId, delivered['request_id'])
    const [event] = post.events as unknown as Record<string, unknown>[]
    assert.equal(event?.['test'], true)
    assert.equal(event['sequence'], 0)
    assert.deepEqual(event['tokens'], { inputTokens: 0, outputTokens: 0, cachedInputTokens: 0 })
    assert.deepEqual(await deliveries(webhook.id), [])

    await receiver[Symbol.asyncDispose]()
    const unreachable = await test()
    assert.deepEqual([unreachable['response_status'], unreachable['error']], [null, 'unreachable'])
  })

  test('hold up nothing while a test waits for its receiver', async () => {
    const answer = Promise.withResolvers<void>()
    await using receiver = await startReceiver((_post, response) => {
      void answer.promise.then(() => response.end())
    })
    await using webhook = await webhookAt(receiver.url)
    const tested = gateway.manage('POST', `${path}/${webhook.id}/test`)
    await until(() => receiver.posts.length === 1)
    await gateway.manage('PATCH', `${path}/${webhook.id}`, { retry_window_seconds: 20 })
    await call()
    answer.resolve()
    assert.equal((await tested)['delivered'], true)
  })

  test('list their deliveries, oldest first, by status and in pages', async () => {
    await using receiver = await startReceiver()
    await using webhook = await webhookAt(receiver.url)
    for (let sent = 1; sent <= 3; sent += 1) {
      await call()
      await until(() => receiver.posts.length === sent)
    }
    receiver.answer = status(400)
    await call()
    const [dead] = await awaitDeliveries(webhook.id, 'dead')
    assert.equal(dead?.response_status, 400)
    assert.equal(dead.attempts, 1)
    assert.equal(dead.request_id, receiver.posts.at(-1)?.requestId)
    assert.deepEqual(
      (await deliveries(webhook.id, 'status=delivered')).map(({ request_id }) => request_id),
      receiver.posts.slice(0, 3).map(({ requestId }) => requestId),
    )
    assert.deepEqual(await deliveries(webhook.id, 'status=pending'), [])
    const first = await gateway.manage<Page<Delivery>>('GET', `${path}/${webhook.id}/deliveries?limit=3`)
    assert.equal(first.pagination.has_more, true)
    const rest = await deliveries(webhook.id, `limit=3&cursor=${first.pagination.cursor}`)
    assert.deepEqual([...first.items, ...rest], await deliveries(webhook.id))
    assert.equal((await send('GET', `${path}/${webhook.id}/deliveries?status=lost`)).status, 400)
  })

  test('send again what is asked for: by id, by time and by its being dead, each under its old request id', async () => {
    await using receiver = await startReceiver(status(410))
    await using webhook = await webhookAt(receiver.url)
    const redeliver = (choice: object) => gateway.manage('POST', `${path}/${webhook.id}/redeliver`, choice)
    const startTime = new Date().toISOString()
    await call()
    await awaitDeliveries(webhook.id, 'dead')

    receiver.answer = status(200)
    assert.deepEqual(await redeliver({ status: 'dead' }), { redelivered: 1 })
    await awaitDeliveries(webhook.id, 'delivered')
    assert.deepEqual(await redeliver({ status: 'dead' }), { redelivered: 0 })

    const [delivery] = await deliveries(webhook.id)
    assert.ok(delivery)
    assert.deepEqual(await redeliver({ delivery_ids: [delivery.id] }), { redelivered: 1 })
    await until(() => receiver.posts.length === 3)
    await awaitDeliveries(webhook.id, 'delivered')

    const endTime = new Date(Date.now() + 1).toISOString()
    assert.deepEqual(await redeliver({ start_time: endTime, end_time: '2100-01-01T00:00:00Z' }), { redelivered: 0 })
    assert.deepEqual(await redeliver({ start_time: '2020-01-01T00:00:00Z', end_time: startTime }), { redelivered: 0 })
    assert.deepEqual(await redeliver({ start_time: startTime, end_time: endTime }), { redelivered: 1 })
    await until(() => receiver.posts.length === 4)
    for (const { requestId, body } of receiver.posts) {
      assert.equal(requestId, delivery.request_id)
      assert.deepEqual(body, receiver.posts[0]?.body)
    }
  })

  test('begin anew with a delivery that is sent again, and leave alone one that is still under way', async () => {
    const clock = new ManualClock()
    await using receiver = await startReceiver(status(410))
    await using still = await startGateway({ clock })
    await still.publish(defaultSlug, upstream.baseUrl)
    const { key } = await still.customer({})
    const webhook = await still.manage<Webhook>('POST', path, { url: receiver.url })
    const only = async () => {
      await delay(20)
      return (await still.manage<Page<Delivery>>('GET', `${path}/${webhook.id}/deliveries`)).items[0]
    }
    await (await still.infer(key, chat())).text()
    await still.manage('GET', '/v1/gateway/events?start_time=2020-01-01T00:00:00Z')
    await until(async () => (await only())?.status === 'dead')

    clock.advance(3_600_000)
    receiver.answer = status(503)
    const redeliver = () => still.manage('POST', `${path}/${webhook.id}/redeliver`, { delivery_ids: [id] })
    const id = (await only())?.id
    assert.deepEqual(await redeliver(), { redelivered: 1 })
    const again = await until(async () => {
      const delivery = await only()
      return delivery?.response_status === 503 && delivery
    })
    assert.deepEqual([again.status, again.attempts], ['pending', 1])
    assert.deepEqual(await redeliver(), { redelivered: 0 })
    assert.equal((await only())?.attempts, 1)
  })

  test('refuse a redelivery that does not say clearly what it is to be', async () => {
    await using webhook = await webhookAt('https://billing.example.com/hook')
    await using other = await webhookAt('http://127.0.0.1:9/')
    const times = { start_time: '2026-01-01T00:00:00Z', end_time: '2026-01-02T00:00:00Z' }
    const unclear = [
      {},
      { delivery_ids: [] },
      { status: 'pending' },
      { status: 'dead', ...times },
      { start_time: times.start_time },
      { end_time: times.end_time },
      { ...times, end_time: '2025-01-01T00:00:00Z' },
      { ...times, start_time: 'today' },
      { all: true },
    ]
    for (const choice of unclear) {
      const { status } = await send('POST', `${path}/${webhook.id}/redeliver`, choice)
      assert.equal(status, 400, JSON.stringify(choice))
    }
    await call()
    const [foreign] = await until(async () => {
      await delay(20)
      const found = await deliveries(other.id)
      return found.length > 0 && found
    })
    for (const delivery_ids of [['nowhere'], [foreign?.id]]) {
      assert.equal((await send('POST', `${path}/${webhook.id}/redeliver`, { delivery_ids })).status, 404)
    }
  })

  test('are gone once deleted, and are sent nothing more', async () => {
    await using receiver = await startReceiver(status(500))
    await using webhook = await webhookAt(receiver.url)
    await call()
    await until(() => receiver.posts.length === 1)
    const tombstone = await gateway.manage('DELETE', `${path}/${webhook.id}`)
    assert.deepEqual(Object.keys(tombstone), ['id', 'url', 'deleted_at'])
    const requests = [
      ['GET', ''],
      ['PATCH', '', { url: receiver.url }],
      ['DELETE', ''],
      ['POST', '/rotate_secret'],
      ['POST', '/test'],
      ['GET', '/deliveries'],
      ['POST', '/redeliver', { status: 'dead' }],
    ] as const
    for (const [method, url, body] of requests) {
      assert.equal((await send(method, `${path}/${webhook.id}${url}`, body)).status, 404, `${method} ${url}`)
    }
    await using control = await startReceiver()
    await using _other = await webhookAt(control.url)
    await call()
    await until(() => control.posts.length === 1)
    assert.equal(receiver.posts.length, 1)
  })

  test('of another workspace are out of reach, and get none of its events', async () => {
    const other = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', { name: 'other' })
    await using mine = await startReceiver()
    await using theirs = await startReceiver()
    await using webhook = await webhookAt(mine.url)
    const created = await send('POST', path, { url: theirs.url }, other.api_key)
    assert.equal(created.status, 200)
    for (const url of ['', '/deliveries']) {
      assert.equal((await send('GET', `${path}/${webhook.id}${url}`, undefined, other.api_key)).status, 403)
    }
    assert.equal((await send('POST', `${path}/${webhook.id}/test`, undefined, other.api_key)).status, 403)
    await call()
    await until(() => mine.posts.length === 1)
    assert.equal(theirs.posts.length, 0)
  })

  test('are retried on the clock on the wall: at 0, 1, 3, 7 and 12 seconds, and no more', async () => {
    const times: number[] = []
    await using receiver = await startReceiver((_post, response) => {
      times.push(performance.now())
      response.writeHead(500).end()
    })
    await using webhook = await webhookAt(receiver.url)
    await call()
    await until(() => times.length === 5, { withinMs: 60_000 })
    const [delivery] = await awaitDeliveries(webhook.id, 'dead')
    assert.equal(delivery?.attempts, 5)
    const seconds = times.slice(1).map((time, index) => (time - (times[index] ?? 0)) / 1_000)
    for (const [index, gap] of [1, 2, 4, 5].entries()) {
      assert.ok((seconds[index] ?? 0) >= gap - 0.01, `the gaps were ${seconds}`)
    }
  })
})
