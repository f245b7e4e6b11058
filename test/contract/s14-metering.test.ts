import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { countTokens } from '../../src/inference/token-count.ts'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import type { Script } from '../support/mock-upstream/script.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { recordedEvents, type WireEvent } from '../support/recorded-events.ts'
import { until } from '../support/until.ts'

/** Contract §14: whatever happens to a response, the record says what it came to, and where the figures are from. */
describe('metering', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl, 'upstream-name')
  })
  beforeEach(async () => {
    customer = await gateway.customer({})
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const events = () => recordedEvents(gateway, customer.prefix)

  /** The one event that the customer's one call led to. */
  async function onlyEvent(): Promise<WireEvent> {
    const found = await until(async () => {
      const recorded = await events()
      return recorded.length > 0 && recorded
    })
    assert.equal(found.length, 1)
    const [event] = found
    assert.ok(event !== undefined)
    assert.equal(event.estimated, event.usageSource === 'estimated')
    assert.equal(event.externalEntityId, customer.externalEntityId)
    assert.equal(event.modelSlug, defaultSlug)
    return event
  }

  const measured: [name: string, script: Script, body: Record<string, unknown>, tokens: WireEvent['tokens']][] = [
    ['an answer in one piece', { promptTokens: 11, completionTokens: 7 }, {}, tokens(11, 7)],
    [
      'cached prompt tokens, which are part of the input',
      { promptTokens: 11, cachedTokens: 4, completionTokens: 7 },
      {},
      tokens(11, 7, 4),
    ],
    ['a stream whose usage we asked for', { promptTokens: 11, completionTokens: 7 }, { stream: true }, tokens(11, 7)],
    [
      'a stream whose usage the client asked for',
      { promptTokens: 11, completionTokens: 7 },
      { stream: true, stream_options: { include_usage: true } },
      tokens(11, 7),
    ],
    [
      'a stream with usage in every chunk',
      { promptTokens: 11, completionTokens: 7, usage: 'every-chunk' },
      { stream: true },
      tokens(11, 7),
    ],
    [
      'a stream with usage beside the finish reason',
      { promptTokens: 11, completionTokens: 7, usage: 'with-finish' },
      { stream: true },
      tokens(11, 7),
    ],
    ['several choices', { promptTokens: 11, completionTokens: 21 }, { n: 3 }, tokens(11, 21)],
    ['several streamed choices', { promptTokens: 11, completionTokens: 21 }, { n: 3, stream: true }, tokens(11, 21)],
    [
      'tool calls',
      { promptTokens: 11, completionTokens: 9, toolCalls: [{ name: 'f', input: { a: 1 } }] },
      {},
      tokens(11, 9),
    ],
    [
      'streamed tool calls',
      { promptTokens: 11, completionTokens: 9, toolCalls: [{ name: 'f', input: { a: 1 } }] },
      { stream: true },
      tokens(11, 9),
    ],
    ['a usage of zero, which stays zero', { usage: 'zero' }, {}, tokens(0, 0)],
    ['a streamed usage of zero', { usage: 'zero' }, { stream: true }, tokens(0, 0)],
  ]
  for (const [name, script, body, expected] of measured) {
    test(`${name}: as upstream reported it`, async () => {
      upstream.script(script)
      const response = await gateway.infer(customer.key, chat(body))
      await response.text()
      const event = await onlyEvent()
      assert.deepEqual(event.tokens, expected)
      assert.equal(event.outcome, 'completed')
      assert.equal(event.usageSource, 'upstream')
      assert.equal(event.requestId, response.headers.get('x-request-id'))
    })
  }

  for (const [path, body, expected] of [
    ['/v1/embeddings', { input: ['one', 'two'] }, tokens(11, 0)],
    ['/v1/completions', { prompt: 'Once' }, tokens(11, 7)],
    ['/v1/responses', { input: 'Once' }, tokens(11, 7)],
    ['/v1/responses', { input: 'Once', stream: true }, tokens(11, 7)],
  ] as const) {
    test(`${path}${'stream' in body ? ', streamed' : ''}: as upstream reported it`, async () => {
      upstream.script({ promptTokens: 11, completionTokens: 7 })
      await (await gateway.infer(customer.key, { model: defaultSlug, ...body }, { path })).text()
      const event = await onlyEvent()
      assert.deepEqual(event.tokens, expected)
      assert.equal(event.usageSource, 'upstream')
    })
  }

  for (const stream of [false, true]) {
    test(`no usage at all${stream ? ' in a stream' : ''}: counted with a tokenizer, and said to be estimated`, async () => {
      const text = 'The river runs past the mill and turns its heavy wheel.'
      upstream.script({ text, usage: 'never' })
      await (await gateway.infer(customer.key, chat({ stream }))).text()
      const event = await onlyEvent()
      assert.equal(event.usageSource, 'estimated')
      assert.equal(event.outcome, 'completed')
      assert.equal(event.tokens.outputTokens, await countTokens(text))
      assert.ok(event.tokens.inputTokens >= 1)
    })
  }

  test('a very long prompt whose upstream gives no usage is not tokenized: a token for every four bytes', async () => {
    upstream.script({ usage: 'never' })
    const messages = [{ role: 'user', content: '漢字'.repeat(200_000) }]
    await (await gateway.infer(customer.key, chat({ messages }))).text()
    const event = await onlyEvent()
    assert.equal(event.usageSource, 'estimated')
    assert.equal(event.tokens.inputTokens, Math.ceil(Buffer.byteLength(JSON.stringify(messages)) / 4))
  })

  test('more tokens than a count can be, reported by upstream, are estimated like none, and harm nobody', async () => {
    const text = 'The river runs past the mill.'
    const limited = await gateway.customer({
      limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 1_000_000 }],
    })
    for (const stream of [false, true]) {
      upstream.script({ text, promptTokens: Number.MAX_SAFE_INTEGER, completionTokens: Number.MAX_SAFE_INTEGER })
      const response = await gateway.infer(limited.key, chat({ stream }))
      assert.equal(response.status, 200)
      await response.text()
    }
    const found = await until(async () => {
      const recorded = await recordedEvents(gateway, limited.prefix)
      return recorded.length === 2 && recorded
    })
    for (const { usageSource, tokens } of found) {
      assert.equal(usageSource, 'estimated')
      assert.equal(tokens.outputTokens, await countTokens(text))
    }
    upstream.script({})
    assert.equal((await gateway.infer(limited.key, chat())).status, 200)
  })

  test('an error inside a 200, with nothing beside it, was not served: the client gets an error, and nothing is billed', async () => {
    upstream.script({ text: 'one two', trouble: { kind: 'error-frame', afterChunks: 0, message: 'out of memory' } })
    const text = await (await gateway.infer(customer.key, chat({ stream: true }))).text()
    assert.match(text, /error/)
    assert.deepEqual(await events(), [])
  })

  test("the body's metadata is the event's requestMetadata, and empty where there is none", async () => {
    upstream.script({})
    const metadata = { project: 'é', deep: { list: [1, null] } }
    await (await gateway.infer(customer.key, chat({ metadata }))).text()
    assert.deepEqual((await onlyEvent()).requestMetadata, metadata)
    await (await gateway.infer(customer.key, chat())).text()
    assert.deepEqual((await events())[1]?.requestMetadata, {})
  })

  test("a customer's events have a sequence without a gap", async () => {
    upstream.script({})
    await Promise.all(Array.from({ length: 20 }, async () => (await gateway.infer(customer.key, chat())).text()))
    const sequences = (await events()).map(({ sequence }) => sequence ?? 0)
    assert.equal(sequences.length, 20)
    const [first = 0] = sequences
    assert.deepEqual(
      sequences,
      Array.from(sequences, (_, index) => first + index),
    )
  })

  test('a request that upstream did not serve makes no event, and shows in the metrics', async () => {
    upstream.script({ trouble: { kind: 'error', status: 500 } })
    await (await gateway.infer(customer.key, chat())).text()
    upstream.script({ trouble: { kind: 'error', status: 400 } })
    await (await gateway.infer(customer.key, chat())).text()
    assert.deepEqual(await events(), [])
    const response = await fetch(`${gateway.management}/metrics`, {
      headers: { authorization: `Api-Key ${gateway.workspaceKey}` },
    })
    const metrics = await response.text()
    assert.match(metrics, new RegExp(`tollgate_requests_total\\{slug="${defaultSlug}",status="502"\\} 1`))
    assert.match(metrics, /tollgate_upstream_failures_total\{reason="500"\} 1/)
  })

  const words = 'one two three four five six seven eight nine ten'
  const chunks = words.split(' ').length
  for (let index = 0; index <= chunks; index++) {
    for (const usage of ['every-chunk', 'never'] as const) {
      test(`a client that leaves after chunk ${index} is billed what was produced (usage ${usage})`, async () => {
        upstream.script({ text: words, promptTokens: 11, pace: 'manual', usage })
        const leave = new AbortController()
        const seen = upstream.requests.length
        const responding = gateway.infer(customer.key, chat({ stream: true }), { signal: leave.signal })
        const request = await until(() => upstream.requests.at(seen))
        await request.release(index)
        const reader = (await responding).body?.getReader()
        let received = ''
        while (received.split('\n\n').length <= index + 1) {
          const { value } = (await reader?.read()) ?? {}
          received += new TextDecoder().decode(value)
        }
        leave.abort()
        await request.ended()
        if (usage === 'every-chunk') {
          const event = await onlyEvent()
          assert.equal(event.outcome, 'client_closed')
          assert.deepEqual(event.tokens, tokens(11, request.producedTokens))
        } else if (index === 0) {
          // Nothing was produced, and nobody said what the prompt cost.
          await until(async () => (await inFlight()) === 0)
          assert.deepEqual(await events(), [])
        } else {
          const event = await onlyEvent()
          assert.equal(event.outcome, 'client_closed')
          assert.equal(event.usageSource, 'estimated')
          assert.equal(event.tokens.outputTokens, await countTokens(contentOf(received)))
        }
      })
    }
  }

  for (const where of ['between-frames', 'mid-frame'] as const) {
    for (let index = 1; index < chunks; index++) {
      test(`an upstream that dies ${where} after chunk ${index} is paid for what it produced`, async () => {
        upstream.script({
          text: words,
          promptTokens: 11,
          usage: 'never',
          trouble: { kind: 'cut', afterChunks: index, where },
        })
        const received = await (await gateway.infer(customer.key, chat({ stream: true }))).text()
        const event = await onlyEvent()
        assert.equal(event.outcome, 'upstream_cut')
        assert.equal(event.usageSource, 'estimated')
        assert.equal(event.tokens.outputTokens, await countTokens(contentOf(received)))
      })
    }
  }

  async function inFlight(): Promise<number> {
    const response = await fetch(`${gateway.management}/metrics`, {
      headers: { authorization: `Api-Key ${gateway.workspaceKey}` },
    })
    return Number(/^tollgate_open_streams (\d+)$/m.exec(await response.text())?.[1])
  }
})

function tokens(inputTokens: number, outputTokens: number, cachedInputTokens = 0): WireEvent['tokens'] {
  return { inputTokens, outputTokens, cachedInputTokens }
}

/** What a stream of chat completions said. */
function contentOf(stream: string): string {
  const deltas = stream.matchAll(/"content":("(?:[^"\\]|\\.)*")/g)
  return [...deltas].map(([, content]) => String(JSON.parse(content ?? '""'))).join('')
}
