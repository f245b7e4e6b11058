import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, beforeEach, describe, test } from 'node:test'
import { countTokens } from '../../src/inference/token-count.ts'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { recordedEvents, type WireEvent } from '../support/recorded-events.ts'
import { until } from '../support/until.ts'

/** Short streams, at every chunk that they may end at, are in `test/contract/s14-metering.test.ts`. */
describe('an abandoned or cut stream is never billed nothing while upstream worked', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer
  /** More than the gateway holds back of an answer in one piece, which it then begins to pass on. */
  const longText = 'word '.repeat(60_000)

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
  })
  beforeEach(async () => {
    customer = await gateway.customer({})
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const firstEvent = (): Promise<WireEvent> =>
    until(async () => (await recordedEvents(gateway, customer.prefix)).at(0) ?? null, { everyMs: 50 })

  /** Reads so many bytes of an answer and goes away. */
  async function readAndLeave(body: object, { path, bytes }: { path?: string; bytes: number }): Promise<void> {
    const leave = new AbortController()
    const options = path === undefined ? {} : { path }
    const response = await gateway.infer(customer.key, body, { ...options, signal: leave.signal })
    const reader = response.body?.getReader()
    for (let read = 0; read < bytes; ) read += (await reader?.read())?.value?.length ?? bytes
    leave.abort()
  }

  test('a client that leaves within an answer in one piece is billed as far as it came', async () => {
    upstream.script({ text: longText.repeat(2), usage: 'never', trouble: { kind: 'stall-midway' } })
    await readAndLeave(chat(), { bytes: 256 * 1024 })
    const event = await firstEvent()
    assert.equal(event.outcome, 'client_closed')
    assert.equal(event.usageSource, 'estimated')
    assert.ok(event.tokens.outputTokens > 50_000, `${event.tokens.outputTokens} tokens`)
  })

  test('an answer in one piece that upstream breaks off after it has begun to arrive is billed as far as it came', async () => {
    upstream.script({ text: longText.repeat(2), usage: 'never', trouble: { kind: 'cut', afterChunks: 100 } })
    const received = (await gateway.infer(customer.key, chat())).text()
    await assert.rejects(received)
    const event = await firstEvent()
    assert.equal(event.outcome, 'upstream_cut')
    assert.equal(event.usageSource, 'estimated')
    assert.ok(event.tokens.outputTokens > 50_000, `${event.tokens.outputTokens} tokens`)
  })

  test('embeddings that are abandoned are billed their prompt', async () => {
    upstream.script({ trouble: { kind: 'stall-midway' } })
    const input = Array.from({ length: 40 }, () => 'one two three')
    await readAndLeave({ model: defaultSlug, input, dimensions: 3072 }, { path: '/v1/embeddings', bytes: 256 * 1024 })
    const { tokens, usageSource } = await firstEvent()
    assert.equal(usageSource, 'estimated')
    assert.ok(tokens.inputTokens >= 120 && tokens.inputTokens <= 160, `${tokens.inputTokens} tokens`)
  })

  test('a stream so long that its text was counted on the way is billed all of it', async () => {
    // A chunk that is counted at once, so that nothing is left to count when the client goes.
    upstream.script({ text: longText.repeat(2), chunks: 2, usage: 'never', pace: 'manual' })
    const seen = upstream.requests.length
    const leaving = readAndLeave(chat({ stream: true }), { bytes: longText.length })
    await (await until(() => upstream.requests.at(seen))).release(1)
    await leaving
    const event = await firstEvent()
    assert.equal(event.outcome, 'client_closed')
    assert.equal(event.tokens.outputTokens, await countTokens(longText))
  })

  for (let index = 1; index < 10; index++) {
    test(`an upstream that counts in every chunk and dies after chunk ${index} is paid what it counted`, async () => {
      upstream.script({
        text: 'one two three four five six seven eight nine ten',
        promptTokens: 11,
        usage: 'every-chunk',
        trouble: { kind: 'cut', afterChunks: index },
      })
      await (await gateway.infer(customer.key, chat({ stream: true }))).text()
      const event = await firstEvent()
      assert.equal(event.outcome, 'upstream_cut')
      assert.equal(event.usageSource, 'upstream')
      assert.deepEqual(event.tokens, {
        inputTokens: 11,
        outputTokens: upstream.requests.at(-1)?.producedTokens,
        cachedInputTokens: 0,
      })
    })
  }

  test('a stream whose usage came before its text, and whose client left, is billed its text', async () => {
    const usage = { prompt_tokens: 9, completion_tokens: 0, total_tokens: 9 }
    const words = Array.from({ length: 200 }, () => chunk({ content: ' word' }))
    await using server = await startStreaming([{ ...chunk({ role: 'assistant', content: '' }), usage }, ...words])
    await gateway.publish('acme/early-usage', server.baseUrl)
    customer = await gateway.customer({ slug: 'acme/early-usage' })
    await readAndLeave(chat({ model: 'acme/early-usage', stream: true }), { bytes: server.bytes })
    const event = await firstEvent()
    assert.equal(event.outcome, 'client_closed')
    assert.equal(event.usageSource, 'estimated')
    assert.deepEqual(event.tokens, { inputTokens: 9, outputTokens: 200, cachedInputTokens: 0 })
  })

  const wordForms: [name: string, path: string, frame: (word: string) => object][] = [
    ['text', '/v1/chat/completions', (word) => chunk({ content: word })],
    ['a legacy function call', '/v1/chat/completions', (word) => chunk({ function_call: { arguments: word } })],
    ['a custom tool', '/v1/chat/completions', (word) => chunk({ tool_calls: [{ index: 0, custom: { input: word } }] })],
    ['spoken words', '/v1/chat/completions', (word) => chunk({ audio: { transcript: word } })],
    ['a form that nobody knows yet', '/v1/chat/completions', (word) => chunk({ hologram: [{ caption: word }] })],
    [
      'an image',
      '/v1/responses',
      (word) => ({ type: 'response.x.partial_image', partial_image_b64: word.repeat(999) }),
    ],
  ]
  for (const [name, path, frame] of wordForms) {
    test(`a stream of ${name} whose client leaves before the usage is told is billed and counted`, async () => {
      await using server = await startStreaming(['one', 'two', 'three'].map(frame))
      const slug = `acme/${name.replaceAll(' ', '-')}`
      await gateway.publish(slug, server.baseUrl)
      customer = await gateway.customer({ slug, limits: [{ type: 'REQUEST', unit: 'DAY', threshold: 1 }] })
      const body = { model: slug, stream: true, messages: [], input: '' }
      await readAndLeave(body, { path, bytes: server.bytes })
      const event = await firstEvent()
      assert.equal(event.outcome, 'client_closed')
      assert.equal(event.usageSource, 'estimated')
      assert.ok(
        event.tokens.outputTokens >= 1 && event.tokens.outputTokens < 200,
        `${event.tokens.outputTokens} tokens`,
      )
      assert.equal((await gateway.infer(customer.key, body, { path })).status, 429)
    })
  }
})

function chunk(delta: object): object {
  return { object: 'chat.completion.chunk', model: 'm', choices: [{ index: 0, delta, finish_reason: null }] }
}

/** An upstream that answers with these events, and then with nothing more. */
async function startStreaming(
  events: readonly object[],
): Promise<AsyncDisposable & { baseUrl: string; bytes: number }> {
  const frames = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(frames)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const close = async () => {
    server.closeAllConnections()
    server.close()
  }
  return { baseUrl: `http://127.0.0.1:${port}/v1`, bytes: frames.length, [Symbol.asyncDispose]: close }
}
