import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

interface Event {
  type: string
  idempotencyKey: string
  timestamp: string
  requestId: string
  sequence: number
  apiKeyPrefix: string
  externalEntityId: string
}

interface Page {
  items: Event[]
  pagination: { has_more: boolean; cursor: string | null }
}

const forever = 'start_time=2020-01-01T00:00:00Z'

/** Contract §14: `GET /v1/gateway/events`. */
describe('the billing record', () => {
  let upstream: MockUpstream
  let gateway: Gateway

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const page = (query: string) => gateway.manage<Page>('GET', `/v1/gateway/events?${query}`)

  async function call(customer: Customer, times: number): Promise<void> {
    for (let made = 0; made < times; made += 1) {
      const response = await gateway.infer(customer.key, chat())
      assert.equal(response.status, 200)
      await response.text()
    }
  }

  /** Everything that a reader sees who follows the cursor. */
  async function readAll(query: string, { between = async () => {} } = {}): Promise<Event[]> {
    const items: Event[] = []
    for (let next = query; ; ) {
      const { items: more, pagination } = await page(next)
      items.push(...more)
      assert.equal(pagination.has_more, pagination.cursor !== null)
      if (pagination.cursor === null) return items
      next = `cursor=${pagination.cursor}&limit=5`
      await between()
    }
  }

  async function refusal(query: string, key = gateway.workspaceKey): Promise<{ status: number; path: string }> {
    const response = await fetch(`${gateway.management}/v1/gateway/events?${query}`, {
      headers: { authorization: `Api-Key ${key}` },
    })
    const body = (await response.json()) as { details?: { path: string }[] }
    return { status: response.status, path: body.details?.[0]?.path ?? '' }
  }

  test('has the event of a response by the time that it has ended, with all that a bill needs', async () => {
    const customer = await gateway.customer({ externalEntityId: 'cust_42' })
    const metadata = { run: '7', name: 'Zoë', nested: { list: [1, 2.5, null] } }
    const response = await gateway.infer(customer.key, chat({ metadata }))
    const answer = (await response.json()) as { usage: { prompt_tokens: number; completion_tokens: number } }
    const { items } = await page(`${forever}&api_keys=${customer.prefix}`)
    assert.equal(items.length, 1)
    const { idempotencyKey, timestamp, sequence, tokens, ...event } = items[0] as Event & { tokens: object }
    assert.match(idempotencyKey, /^[0-9A-HJKMNP-TV-Z]{26}$/)
    assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.ok(sequence >= 1)
    assert.deepEqual(tokens, {
      inputTokens: answer.usage.prompt_tokens,
      outputTokens: answer.usage.completion_tokens,
      cachedInputTokens: (tokens as { cachedInputTokens: number }).cachedInputTokens,
    })
    assert.deepEqual(event, {
      type: 'API_BILLING_USAGE',
      requestId: response.headers.get('x-request-id'),
      requestMetadata: metadata,
      modelSlug: defaultSlug,
      externalEntityId: 'cust_42',
      externalCustomerId: 'cust_42',
      apiKeyPrefix: customer.prefix,
      outcome: 'completed',
      usageSource: 'upstream',
      estimated: false,
    })
  })

  test('has an event of this very millisecond in a window that ends now', async () => {
    await using still = await startGateway({ clock: new ManualClock() })
    await still.publish(defaultSlug, upstream.baseUrl)
    const customer = await still.customer({})
    await (await still.infer(customer.key, chat())).text()
    assert.equal((await still.manage<Page>('GET', `/v1/gateway/events?${forever}`)).items.length, 1)
  })

  test('gives a request without metadata an empty object', async () => {
    const customer = await gateway.customer({})
    await call(customer, 1)
    const { items } = await page(`${forever}&api_keys=${customer.prefix}`)
    assert.deepEqual((items[0] as Event & { requestMetadata: object }).requestMetadata, {})
  })

  test('filters by keys and by groups, each as often as it is given, both together', async () => {
    const [one, two, three] = [await gateway.customer({}), await gateway.customer({}), await gateway.customer({})]
    await call(one, 2)
    await call(two, 3)
    await call(three, 1)
    const count = async (...filters: string[]) => (await readAll([forever, ...filters].join('&'))).length
    const entity = (customer: Customer) => `external_entity_ids=${customer.externalEntityId}`
    const key = (customer: Customer) => `api_keys=${customer.prefix}`
    assert.equal(await count(key(one)), 2)
    assert.equal(await count(key(one), key(two)), 5)
    assert.equal(await count(entity(two), entity(three)), 4)
    assert.equal(await count(entity(two), key(two)), 3)
    assert.equal(await count(entity(two), key(one)), 0)
    assert.equal(await count('api_keys=nobody'), 0)
  })

  test('begins with start_time and ends before end_time, to the millisecond', async () => {
    const customer = await gateway.customer({})
    await call(customer, 12)
    const filter = `api_keys=${customer.prefix}`
    const all = await readAll(`${forever}&${filter}`)
    const { timestamp } = all[6] ?? assert.fail()
    const times = (events: Event[]) => events.map((event) => event.timestamp)
    assert.deepEqual(
      times(await readAll(`start_time=${timestamp}&${filter}`)),
      times(all).filter((time) => time >= timestamp),
    )
    assert.deepEqual(
      times(await readAll(`${forever}&end_time=${timestamp}&${filter}`)),
      times(all).filter((time) => time < timestamp),
    )
    // Half a millisecond after an event is after it.
    assert.deepEqual(
      times(await readAll(`start_time=${timestamp.replace('Z', '500Z')}&${filter}`)),
      times(all).filter((time) => time > timestamp),
    )
    assert.deepEqual(await readAll(`start_time=${timestamp}&end_time=${timestamp}&${filter}`), [])
  })

  test('a reader who follows the cursor sees every event once, also while events are being written', async () => {
    const customer = await gateway.customer({})
    await call(customer, 25)
    const filter = `api_keys=${customer.prefix}&end_time=2100-01-01T00:00:00Z&limit=5`
    const seen = await readAll(`${forever}&${filter}`, { between: () => call(customer, 3) })
    const all = await readAll(`${forever}&api_keys=${customer.prefix}`)
    assert.ok(seen.length > 25)
    assert.deepEqual(seen, all.slice(0, seen.length))
    assert.equal(new Set(seen.map(({ idempotencyKey }) => idempotencyKey)).size, seen.length)
  })

  test('without end_time a reader sees what there was when it began', async () => {
    const customer = await gateway.customer({})
    await call(customer, 11)
    const filter = `api_keys=${customer.prefix}&limit=5`
    assert.equal((await readAll(`${forever}&${filter}`, { between: () => call(customer, 2) })).length, 11)
  })

  test('a cursor keeps its window and filters, whatever stands beside it', async () => {
    const customer = await gateway.customer({})
    await call(customer, 7)
    const first = await page(`${forever}&api_keys=${customer.prefix}&limit=4`)
    const others = 'start_time=nonsense&end_time=1999-01-01T00:00:00Z&api_keys=another&external_entity_ids=another'
    const second = await page(`cursor=${first.pagination.cursor}&${others}`)
    assert.equal(second.items.length, 3)
    assert.ok(second.items.every(({ apiKeyPrefix }) => apiKeyPrefix === customer.prefix))
    assert.equal(second.pagination.has_more, false)
  })

  test('a cursor is base64, and none is taken that was not handed out to this workspace', async () => {
    const customer = await gateway.customer({})
    await call(customer, 3)
    const { pagination } = await page(`${forever}&api_keys=${customer.prefix}&limit=1`)
    const cursor = pagination.cursor ?? assert.fail()
    assert.match(cursor, /^[A-Za-z0-9]+={0,2}$/)
    const plain = Buffer.from(JSON.stringify({ startMs: 0, endMs: 9e15, afterPosition: 0 })).toString('base64')
    const flipped = `${cursor.slice(0, 20)}${cursor[20] === 'A' ? 'B' : 'A'}${cursor.slice(21)}`
    for (const forged of ['', 'x', plain, flipped, cursor.slice(0, -8), `${cursor}AAAA`, `${cursor}!`]) {
      assert.deepEqual(await refusal(`cursor=${forged}`), { status: 400, path: 'cursor' }, forged)
    }
    const other = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', { name: 'other' })
    assert.equal((await refusal(`cursor=${cursor}`, other.api_key)).status, 400)
  })

  test('a window that is none is a 400 that names what is at fault', async () => {
    assert.deepEqual(await refusal(''), { status: 400, path: 'start_time' })
    const notUtc = [
      'yesterday',
      '2026-01-15',
      '2026-01-15T12:00:00',
      '2026-01-15T12:00:00%2B02:00',
      '2026-02-30T00:00:00Z',
    ]
    for (const time of [...notUtc, '2026-13-01T00:00:00Z', '1768478400000', '']) {
      assert.deepEqual(await refusal(`start_time=${time}`), { status: 400, path: 'start_time' }, time)
      assert.deepEqual(await refusal(`${forever}&end_time=${time}`), { status: 400, path: 'end_time' }, time)
    }
    assert.deepEqual(await refusal(`${forever}&end_time=2019-12-31T00:00:00Z`), { status: 400, path: 'end_time' })
    for (const limit of ['0', '1001', 'ten']) assert.equal((await refusal(`${forever}&limit=${limit}`)).path, 'limit')
    for (const time of ['2026-01-15T12:00Z', '2026-01-15T12:00:00.123456Z', '2026-01-15T12:00:00%2B00:00']) {
      await page(`start_time=${time}`)
    }
  })

  test('is nobody else’s: another workspace sees nothing of it, and a federated key is unknown', async () => {
    const customer = await gateway.customer({})
    await call(customer, 1)
    assert.equal((await refusal(forever, customer.key)).status, 401)
    const other = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', { name: 'nosy' })
    const response = await fetch(`${gateway.management}/v1/gateway/events?${forever}&api_keys=${customer.prefix}`, {
      headers: { authorization: `Api-Key ${other.api_key}` },
    })
    assert.deepEqual(((await response.json()) as Page).items, [])
  })
})
