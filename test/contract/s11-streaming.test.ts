import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, beforeEach, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { recordedEvents } from '../support/recorded-events.ts'
import { until } from '../support/until.ts'

/** Contract §11, §14: streams, and how they end. */
describe('streaming', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway({ settings: { TOLLGATE_IDLE_TIMEOUT_MS: '500' } })
    await gateway.publish(defaultSlug, upstream.baseUrl, 'upstream-name')
  })
  beforeEach(async () => {
    customer = await gateway.customer({ limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 1_000_000 }] })
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const events = () => recordedEvents(gateway, customer.prefix)

  /** Starts a call; resolves with upstream's side of it once it has arrived there. */
  const call = async (options: { signal?: AbortSignal } = {}) => {
    const seen = upstream.requests.length
    const responding = gateway.infer(customer.key, chat({ stream: true }), options)
    return { responding, request: await until(() => upstream.requests.at(seen)) }
  }

  test('every frame is passed on as soon as it is there', async () => {
    upstream.script({ text: 'one two three', pace: 'manual' })
    const { responding, request } = await call()
    await request.release(0)
    const response = await responding
    assert.equal(response.headers.get('content-type')?.split(';')[0], 'text/event-stream')
    const reader = frameReader(response)
    assert.match(await reader.next(), /"role":"assistant"/)
    for (const word of ['one', 'two', 'three']) {
      await request.release(1)
      assert.ok((await reader.next()).includes(word))
    }
    await request.finish()
    assert.match(await reader.rest(), /"finish_reason":"stop"[\s\S]*data: \[DONE\]\n\n$/)
  })

  test('a stream is the same bytes but for the model, in any framing', async () => {
    for (const framing of [
      {},
      { lineEnd: '\r\n' as const },
      { afterColon: '' as const },
      { comment: 'ping' },
      { framesPerWrite: 7 },
      { writeBytes: [1, 7, 3, 50] },
    ]) {
      upstream.script({ text: 'some words that are long enough', framing, model: 'upstream-name' })
      const direct = await (
        await fetch(`${upstream.baseUrl}/chat/completions`, {
          method: 'POST',
          body: JSON.stringify(chat({ stream: true, stream_options: { include_usage: true } })),
        })
      ).text()
      const through = await (
        await gateway.infer(customer.key, chat({ stream: true, stream_options: { include_usage: true } }))
      ).text()
      assert.equal(
        stripIds(through),
        stripIds(direct.replaceAll('upstream-name', defaultSlug)),
        JSON.stringify(framing),
      )
    }
  })

  test('a frame of several megabytes, such as an image, is passed on whole', async () => {
    const text = 'A'.repeat(6_000_000)
    upstream.script({ text, chunks: 1, completionTokens: 1_000 })
    const stream = await (await gateway.infer(customer.key, chat({ stream: true }))).text()
    assert.equal(stream.split(text).length, 2)
    assert.match(stream, /data: \[DONE\]\n\n$/)
    assert.equal((await events())[0]?.outcome, 'completed')
  })

  test('a client that leaves ends the upstream call within 100 ms, and what was produced is recorded', async () => {
    upstream.script({ text: 'a '.repeat(50), pace: 'manual', usage: 'every-chunk', promptTokens: 9 })
    const leave = new AbortController()
    const { responding, request } = await call({ signal: leave.signal })
    await request.release(5)
    const reader = frameReader(await responding)
    for (let frame = 0; frame < 6; frame++) await reader.next()
    leave.abort()
    await request.ended()
    assert.equal(request.aborted, true)
    const [event] = await until(async () => {
      const found = await events()
      return found.length > 0 && found
    })
    assert.equal(event?.outcome, 'client_closed')
    assert.deepEqual(event?.tokens, {
      inputTokens: 9,
      outputTokens: request.producedTokens,
      cachedInputTokens: 0,
    })
  })

  test('an upstream that dies in a stream is told to the client in an error frame, without [DONE]', async () => {
    for (const where of ['between-frames', 'mid-frame'] as const) {
      upstream.script({ text: 'one two three four', trouble: { kind: 'cut', afterChunks: 2, where } })
      const text = await (await gateway.infer(customer.key, chat({ stream: true }))).text()
      assert.match(text, /one/)
      assert.match(text, /data: \{"error":\{"message":"[^"]+","type":"server_error"/)
      assert.doesNotMatch(text, /\[DONE\]/)
    }
    const outcomes = (await events()).map(({ outcome }) => outcome)
    assert.deepEqual(outcomes, ['upstream_cut', 'upstream_cut'])
  })

  test('a stream that just stops, or stalls, is cut and says so', async () => {
    for (const kind of ['stop', 'stall'] as const) {
      upstream.script({ text: 'one two three four', trouble: { kind, afterChunks: 2 } })
      const text = await (await gateway.infer(customer.key, chat({ stream: true }))).text()
      assert.match(text, /data: \{"error":/, kind)
    }
    assert.deepEqual(
      (await events()).map(({ outcome, usageSource }) => `${outcome} ${usageSource}`),
      ['upstream_cut estimated', 'upstream_cut estimated'],
    )
  })

  test("upstream's own error frame reaches the client, and the event says how the stream ended", async () => {
    upstream.script({
      text: 'one two three',
      trouble: { kind: 'error-frame', afterChunks: 2, message: 'out of memory' },
    })
    const text = await (await gateway.infer(customer.key, chat({ stream: true }))).text()
    assert.match(text, /out of memory/)
    assert.equal((await events())[0]?.outcome, 'upstream_cut')
  })

  test('a slow reader pauses upstream instead of filling memory', async () => {
    upstream.script({ text: 'word '.repeat(400_000), completionTokens: 400_000, chunks: 400_000 })
    const seen = upstream.requests.length
    const socket = connect(Number(new URL(gateway.inference).port), '127.0.0.1')
    const body = JSON.stringify(chat({ stream: true }))
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${customer.key}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
    const request = await until(() => upstream.requests.at(seen))
    let written = -1
    await until(async () => {
      const before = written
      written = request.bytesWritten
      await new Promise((resolve) => setImmediate(resolve))
      return written > 0 && written === before
    })
    assert.ok(request.bytesWritten < 20_000_000, `upstream wrote ${request.bytesWritten} bytes that nobody read`)
    // A reader that never reads is cut off in the end, and upstream with it.
    await request.ended()
    assert.equal(request.aborted, true)
    socket.destroy()
  })
})

function stripIds(stream: string): string {
  return stream.replace(/"(id|created)":("[^"]*"|\d+)/g, '"$1":0')
}

/** Reads a response frame by frame. */
function frameReader(response: Response): { next(): Promise<string>; rest(): Promise<string> } {
  const chunks = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  assert.ok(chunks !== undefined)
  let buffered = ''
  const more = async () => {
    const { value, done } = await chunks.read()
    buffered += value ?? ''
    return !done
  }
  return {
    async next() {
      while (!buffered.includes('\n\n')) if (!(await more())) throw new Error('The stream has ended.')
      const end = buffered.indexOf('\n\n') + 2
      const frame = buffered.slice(0, end)
      buffered = buffered.slice(end)
      return frame
    },
    async rest() {
      while (await more());
      return buffered
    },
  }
}
