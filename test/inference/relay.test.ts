import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { InboundResponse } from '../../src/inbound/response.ts'
import { apis } from '../../src/inference/api.ts'
import { ClientConnection } from '../../src/inference/client-connection.ts'
import { renderOpenAiError } from '../../src/inference/openai.ts'
import { relay } from '../../src/inference/relay.ts'
import { UpstreamResponse } from '../../src/inference/upstream.ts'
import { openMetrics } from '../../src/metrics.ts'
import { OutboundCall, type OutboundHandler } from '../../src/outbound/call.ts'
import { ManualClock } from '../support/manual-clock.ts'

test('upstream is read on after the last frame of a stream, also when that frame has filled the buffer to the client', async () => {
  const upstream = new PausableUpstream()
  const response = new UpstreamResponse(
    { dispatch: (_request, handler) => upstream.call(handler), [Symbol.asyncDispose]: async () => {} },
    { origin: 'http://upstream', method: 'POST', path: '/', headers: [], body: [] },
  )
  upstream.send('data: {"choices":[]}\n\n')
  const api = apis.get('/v1/chat/completions')
  assert.ok(api !== undefined)
  const relayed = relay(response, {
    client: clientThatDoesNotRead(),
    request: {
      slug: 'acme/model',
      body: Buffer.from('{}'),
      scanned: { ok: true, members: {}, closeAt: 1, empty: true },
      isStream: true,
      showsUsage: true,
      usageEdit: null,
      promptTokens: 0,
      tokensToReserve: 0,
      metadata: null,
    },
    api,
    clock: new ManualClock(),
    metrics: openMetrics(),
    stallTimeoutMs: 1_000,
    record: async () => {},
  })
  upstream.send(`data: {"choices":[{"delta":{"content":"${'x'.repeat(200)}"}}]}\n\n${usage}data: [DONE]\n\n`)
  await relayed
  assert.deepEqual(upstream.asked, ['resume', 'pause', 'resume', 'endSoon'])
})

const usage = 'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'

/** The buffer before it is full with a hundred bytes. */
function clientThatDoesNotRead(): ClientConnection {
  const carrier = {
    stream: new Writable({ highWaterMark: 100, write: () => {} }),
    keepsAlive: () => true,
    connectionHeaders: () => '',
    ended: () => {},
    destroy: () => {},
  }
  const response = new InboundResponse(carrier, { method: 'POST', readsChunks: true })
  return new ClientConnection(response, { requestId: 'request', renderError: renderOpenAiError })
}

/** What is asked of the connection to an upstream, in order. */
class PausableUpstream {
  readonly asked: string[] = []
  #call: OutboundCall | null = null

  call(handler: OutboundHandler): OutboundCall {
    this.#call = new OutboundCall(handler)
    this.#call.carriedBy({
      pause: () => this.asked.push('pause'),
      resume: () => this.asked.push('resume'),
      endSoon: () => this.asked.push('endSoon'),
      destroy: () => {},
    })
    this.#call.head(200, { 'content-type': 'text/event-stream' })
    return this.#call
  }

  send(frames: string): void {
    this.#call?.data(Buffer.from(frames))
  }
}
