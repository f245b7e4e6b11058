import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { until } from '../support/until.ts'

/** Contract §12, through the wire, on a clock that the test moves. */
describe('enforcement', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  const clock = new ManualClock('2026-03-01T10:00:00.000Z')

  before(async () => {
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
    gateway = await startGateway({ clock })
    await gateway.publish(defaultSlug, upstream.baseUrl)
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  interface LimitError {
    error: {
      type: string
      code: string
      message: string
      limit: { type: string; unit: string; threshold: number; scope: string }
    }
  }

  const refusal = async (response: Response) => {
    assert.equal(response.status, 429)
    return ((await response.json()) as LimitError).error
  }
  const usageOf = (groupId: string) =>
    gateway.manage<{ usage: Record<string, { current_usage: number | null }[]> }>(
      'GET',
      `/v1/gateway/groups/${groupId}/usage`,
    )

  test('300 requests at once through a limit of 90 a minute admit exactly 90', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 90 }] })
    const responses = await Promise.all(Array.from({ length: 300 }, () => gateway.infer(key, chat())))
    await Promise.all(responses.map((response) => response.text()))
    assert.equal(responses.filter(({ status }) => status === 200).length, 90)
    assert.equal(responses.filter(({ status }) => status === 429).length, 210)
  })

  test('a refusal names the limit that fired, and Retry-After is true to the millisecond', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'SECOND', threshold: 1 }] })
    await (await gateway.infer(key, chat())).text()
    const response = await gateway.infer(key, chat())
    const retryAfterMs = Number(response.headers.get('retry-after-ms'))
    assert.equal(response.headers.get('retry-after'), String(Math.max(1, Math.ceil(retryAfterMs / 1000))))
    assert.equal(response.headers.get('x-should-retry'), null)
    const error = await refusal(response)
    assert.equal(error.code, 'rate_limit_exceeded')
    assert.equal(error.type, 'requests')
    assert.match(error.message, /1 request per second/)
    assert.deepEqual(error.limit, { type: 'REQUEST', unit: 'SECOND', threshold: 1, scope: 'group' })

    clock.advance(retryAfterMs - 1)
    assert.equal((await gateway.infer(key, chat())).status, 429)
    clock.advance(1)
    assert.equal((await gateway.infer(key, chat())).status, 200)
  })

  test('every answer tells where the tightest rate limit of each type stands', async () => {
    const { key } = await gateway.customer({
      limits: [
        { type: 'REQUEST', unit: 'MINUTE', threshold: 5 },
        { type: 'REQUEST', unit: 'SECOND', threshold: 100 },
        { type: 'TOKEN', unit: 'MINUTE', threshold: 1_000 },
      ],
    })
    const response = await gateway.infer(key, chat({ max_tokens: 50 }))
    assert.equal(response.headers.get('x-ratelimit-limit-requests'), '5')
    assert.equal(response.headers.get('x-ratelimit-remaining-requests'), '4')
    assert.match(response.headers.get('x-ratelimit-reset-requests') ?? '', /^1m[01]s$|^60s$/)
    assert.equal(response.headers.get('x-ratelimit-limit-tokens'), '1000')
    const remaining = Number(response.headers.get('x-ratelimit-remaining-tokens'))
    assert.ok(remaining < 950 && remaining > 900, `${remaining} tokens remain`)
    await response.text()

    upstream.script({ trouble: { kind: 'error', status: 500 } })
    const failed = await gateway.infer(key, chat())
    assert.equal(failed.headers.get('x-ratelimit-limit-requests'), '5')
    upstream.script({ promptTokens: 10, completionTokens: 20 })
  })

  test('a daily limit says when the day ends, and that a retry is of no use before', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'DAY', threshold: 1 }] })
    await (await gateway.infer(key, chat())).text()
    const response = await gateway.infer(key, chat())
    assert.equal(response.headers.get('x-should-retry'), 'false')
    const untilMidnightMs = Date.parse('2026-03-02T00:00:00Z') - clock.now()
    assert.equal(Number(response.headers.get('retry-after-ms')), untilMidnightMs)
    assert.equal((await refusal(response)).code, 'usage_limit_exceeded')
  })

  test('the tokens of a request are reserved while it runs and become the real figure when it ends', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }] })
    upstream.script({ promptTokens: 10, completionTokens: 20, pace: 'manual' })
    const seen = upstream.requests.length
    const running = gateway.infer(key, chat({ max_tokens: 80 }))
    const request = await until(() => upstream.requests.at(seen))
    const refused = await refusal(await gateway.infer(key, chat({ max_tokens: 80 })))
    assert.equal(refused.type, 'tokens')
    await request.finish()
    assert.equal((await running).status, 200)
    upstream.script({ promptTokens: 10, completionTokens: 20 })
    // 30 are used: a reservation of up to 70 fits, one of more does not.
    assert.equal((await gateway.infer(key, chat({ max_tokens: 90 }))).status, 429)
    assert.equal((await gateway.infer(key, chat({ max_tokens: 50 }))).status, 200)
  })

  test('the declared maximum is reserved for every choice of every prompt of a request', async () => {
    const tokenIds = [101, 2023, 102]
    for (const [body, estimate, output] of [
      [{ prompt: 'abcdef' }, 2, 50],
      [{ prompt: ['abcdef'], n: 2 }, 3, 100],
      [{ prompt: Array(100).fill('a, b') }, 176, 5_000],
      [{ prompt: Array(100).fill('a, b'), n: 2, best_of: 3 }, 176, 15_000],
      [{ prompt: Array(100).fill('a, b'), n: 2, best_of: null }, 176, 10_000],
      [{ prompt: tokenIds }, 3, 50],
      [{ prompt: tokenIds, best_of: 4 }, 3, 200],
      [{ prompt: [tokenIds, tokenIds, [7]] }, 7, 150],
      [{ prompt: [] }, 1, 50],
    ] as const) {
      const { key } = await gateway.customer({ limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: 100_000 }] })
      const response = await gateway.infer(
        key,
        { model: defaultSlug, max_tokens: 50, ...body },
        { path: '/v1/completions' },
      )
      await response.text()
      const remaining = Number(response.headers.get('x-ratelimit-remaining-tokens'))
      assert.equal(100_000 - remaining, estimate + output, JSON.stringify(body))
    }
  })

  test('a maximum beyond all counting is refused by a token limit, and passed on where there is none', async () => {
    const most = Number.MAX_SAFE_INTEGER
    const limits = [{ type: 'TOKEN', unit: 'MINUTE', threshold: 1_000_000_000 }] as const
    const limited = await gateway.customer({ limits: [...limits] })
    const unlimited = await gateway.customer({})
    for (const body of [
      { prompt: 'a', max_tokens: most },
      { prompt: 'a', max_tokens: most, n: most, best_of: most },
      { prompt: ['a', 'b'], max_tokens: most, n: most },
      { prompt: ['a', 'b'], max_tokens: 2e300, best_of: 2e300 },
      { prompt: ['a', 'b'], max_tokens: 1, n: most },
    ]) {
      const infer = (key: string) => gateway.infer(key, { model: defaultSlug, ...body }, { path: '/v1/completions' })
      const error = await refusal(await infer(limited.key))
      assert.equal(error.type, 'tokens')
      // Upstream may well refuse it; the gateway does not.
      const seen = upstream.requests.length
      const passedOn = await infer(unlimited.key)
      await passedOn.text()
      assert.notEqual(passedOn.status, 500)
      assert.equal(upstream.requests.length, seen + 1)
    }
  })

  test('a count that is no number, which a lenient server would read as one, is 400', async () => {
    const { key } = await gateway.customer({})
    for (const name of ['max_tokens', 'max_completion_tokens', 'n', 'best_of']) {
      for (const count of ['1000', true, [5]]) {
        const response = await gateway.infer(key, chat({ [name]: count }))
        assert.equal(response.status, 400)
        const { error } = (await response.json()) as { error: { param: string } }
        assert.equal(error.param, name)
      }
    }
  })

  test('a small token limit admits a request that declares no maximum', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: 100 }] })
    assert.equal((await gateway.infer(key, chat())).status, 200)
  })

  test('a threshold of 0 blocks', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: 0 }] })
    const response = await gateway.infer(key, chat())
    assert.equal(response.headers.get('x-should-retry'), 'false')
    await refusal(response)
  })

  test("a CASCADING parent's limit is shared by its whole subtree and shown as the parent's", async () => {
    const parent = await gateway.customer({
      limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 3 }],
      enforcement: 'CASCADING',
    })
    const children = await Promise.all(
      [1, 2].map(() =>
        gateway.customer({ parent: parent.groupId, limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 2 }] }),
      ),
    )
    const statuses: number[] = []
    for (const { key } of [...children, ...children]) statuses.push((await gateway.infer(key, chat())).status)
    assert.deepEqual(statuses, [200, 200, 200, 429])
    const error = await refusal(await gateway.infer(children[1]?.key ?? '', chat()))
    assert.equal(error.limit.scope, 'parent')
    assert.ok(!JSON.stringify(error).includes(parent.groupId))
  })

  test('an INDEPENDENT child inherits a limit and is counted for itself', async () => {
    const parent = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 1 }] })
    const child = await gateway.customer({ parent: parent.groupId })
    assert.equal((await gateway.infer(parent.key, chat())).status, 200)
    assert.equal((await gateway.infer(child.key, chat())).status, 200)
    assert.equal((await gateway.infer(child.key, chat())).status, 429)
  })

  test('a refused request changes no counter on the path', async () => {
    const day = { type: 'REQUEST', unit: 'DAY', threshold: 10 } as const
    const parent = await gateway.customer({ limits: [day], enforcement: 'CASCADING' })
    const child = await gateway.customer({
      parent: parent.groupId,
      limits: [day, { type: 'REQUEST', unit: 'MINUTE', threshold: 1 }],
    })
    await (await gateway.infer(child.key, chat())).text()
    const usage = async () => JSON.stringify([await usageOf(parent.groupId), await usageOf(child.groupId)])
    const before = await usage()
    assert.equal((await gateway.infer(child.key, chat())).status, 429)
    assert.equal(await usage(), before)
  })

  test('a changed limit and a revoked key hold for the next request', async () => {
    const customer = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 1 }] })
    await (await gateway.infer(customer.key, chat())).text()
    assert.equal((await gateway.infer(customer.key, chat())).status, 429)
    await gateway.manage('PATCH', `/v1/gateway/groups/${customer.groupId}`, {
      models: [{ slug: defaultSlug, rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 2 }] }],
    })
    assert.equal((await gateway.infer(customer.key, chat())).status, 200)
    assert.equal((await gateway.infer(customer.key, chat())).status, 429)
    await gateway.manage('DELETE', `/v1/gateway/groups/${customer.groupId}/api_keys/${customer.prefix}`)
    assert.equal((await gateway.infer(customer.key, chat())).status, 401)
  })

  test('a daily limit added at noon knows the morning', async () => {
    const customer = await gateway.customer({})
    await (await gateway.infer(customer.key, chat())).text()
    await (await gateway.infer(customer.key, chat())).text()
    await gateway.manage('PATCH', `/v1/gateway/groups/${customer.groupId}`, {
      models: [{ slug: defaultSlug, usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 1_000 }] }],
    })
    const { usage } = await usageOf(customer.groupId)
    assert.equal(usage[defaultSlug]?.[0]?.current_usage, 60)
  })

  test('a group that is deleted takes its whole subtree with it', async () => {
    const parent = await gateway.customer({})
    const child = await gateway.customer({ parent: parent.groupId })
    assert.equal((await gateway.infer(child.key, chat())).status, 200)
    await gateway.manage('DELETE', `/v1/gateway/groups/${parent.groupId}`)
    assert.equal((await gateway.infer(child.key, chat())).status, 401)
    assert.equal((await gateway.infer(parent.key, chat())).status, 401)
  })
})
