import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { describe, test } from 'node:test'
import { ManualClock } from '../manual-clock.ts'
import { type MockUpstream, startMockUpstream } from '../mock-upstream.ts'
import type { Trouble } from './script.ts'

const body = { model: 'm', messages: [{ role: 'user', content: 'hi' }] }
const streamBody = { ...body, stream: true, stream_options: { include_usage: true } }

function post(
  upstream: MockUpstream,
  json: object,
  { signal, headers }: { signal?: AbortSignal; headers?: Record<string, string> } = {},
): Promise<Response> {
  return fetch(`${upstream.baseUrl}/chat/completions`, {
    method: 'POST',
    body: JSON.stringify(json),
    ...(signal === undefined ? {} : { signal }),
    ...(headers === undefined ? {} : { headers }),
  })
}

describe('the delivery of the mock upstream', () => {
  test('a manual stream lets out exactly the chunks that are released, and its end on finish', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ text: 'a b c', chunks: 3, completionTokens: 9, pace: 'manual' })
    const answering = post(upstream, streamBody)
    const request = await upstream.nextRequest()
    assert.equal(request.bytesWritten, 0)

    await request.release(2)
    assert.equal(request.producedTokens, 6)
    const reader = (await answering).body?.pipeThrough(new TextDecoderStream()).getReader()
    assert.ok(reader)
    let text = ''
    while (!text.includes('"b ')) text += (await reader.read()).value
    assert.equal(text.includes('"c"'), false)

    await request.finish()
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value
    assert.match(text, /\[DONE\]\n\n$/)
    assert.deepEqual([request.completed, request.aborted, request.producedTokens], [true, false, 9])
  })

  test('a client that goes away is recorded at its chunk, with the tokens produced until then', async () => {
    await using upstream = await startMockUpstream()
    for (const chunks of [0, 1, 3]) {
      upstream.script({ chunks: 4, completionTokens: 8, pace: 'manual' })
      const leaving = new AbortController()
      const answering = post(upstream, streamBody, { signal: leaving.signal })
      const request = await upstream.nextRequest()
      await request.release(chunks)
      await answering
      leaving.abort()
      await request.ended()
      assert.deepEqual([request.aborted, request.abortedAtChunk, request.producedTokens], [true, chunks, chunks * 2])
      await request.release(5)
      assert.equal(request.producedTokens, chunks * 2)
    }
  })

  test('a manual answer in one piece is produced by release and sent by finish', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ chunks: 4, completionTokens: 8, pace: 'manual' })
    const answering = post(upstream, body)
    const request = await upstream.nextRequest()
    await request.release(3)
    assert.deepEqual([request.producedTokens, request.bytesWritten], [6, 0])
    await request.finish()
    assert.equal((await answering).status, 200)
  })

  test('chunks leave at the pace of the clock', { timeout: 10_000 }, async ({ signal }) => {
    const clock = new ManualClock()
    await using upstream = await startMockUpstream({ clock, script: { chunks: 2, pace: { chunkDelayMs: 50 } } })
    const answering = post(upstream, body)
    const request = await upstream.nextRequest()
    for (const produced of [0, 1]) {
      while (clock.nextTimerMs() === null && !signal.aborted) await new Promise(setImmediate)
      assert.equal(request.progress.chunks, produced)
      clock.advance(50)
    }
    await (await answering).text()
    assert.equal(request.endedAtMs, clock.monotonic())
  })

  test('frames are joined, cut anywhere, commented and ended as the framing says', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ text: 'one é two' })
    const plain = await (await post(upstream, streamBody)).text()
    upstream.script({ text: 'one é two', framing: { writeBytes: [1, 7, 3], framesPerWrite: 2 } })
    const cut = await (await post(upstream, streamBody)).text()
    const framing = { lineEnd: '\r\n', afterColon: '', comment: 'alive', framesPerWrite: 3 } as const
    upstream.script({ text: 'one é two', framing })
    const dressed = await (await post(upstream, streamBody)).text()
    const ignoringId = (text: string) => text.replaceAll(/mock\d+/g, '')
    assert.equal(ignoringId(cut), ignoringId(plain))
    assert.equal(
      ignoringId(dressed.replaceAll(': alive\r\n', '').replaceAll('\r\n', '\n').replaceAll('data:', 'data: ')),
      ignoringId(plain),
    )
    assert.equal(dressed.split(': alive\r\n').length, plain.split('data: ').length)
  })

  test('an answer is compressed only for a client that accepts it', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ text: 'one two', compression: 'gzip' })
    for (const json of [body, streamBody]) {
      const zipped = await post(upstream, json, { headers: { 'accept-encoding': 'gzip' } })
      assert.equal(zipped.headers.get('content-encoding'), 'gzip')
      assert.match(await zipped.text(), /two/)
      const plain = await post(upstream, json, { headers: { 'accept-encoding': 'identity' } })
      assert.equal(plain.headers.get('content-encoding'), null)
    }
  })

  test('a reader that stops reading stops the stream, in bounded memory', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ chunks: 60_000, framing: { framesPerWrite: 100 } })
    const { hostname, port } = new URL(upstream.origin)
    const sending = httpRequest({ hostname, port, path: '/v1/chat/completions', method: 'POST' })
    sending.end(JSON.stringify(streamBody))
    const [response] = (await once(sending, 'response')) as [IncomingMessage]
    const request = await upstream.nextRequest()
    let before = -1
    while (request.bytesWritten > before) {
      before = request.bytesWritten
      for (let turn = 0; turn < 2_000; turn++) await new Promise(setImmediate)
    }
    assert.ok(request.progress.chunks > 0 && request.progress.chunks < 40_000, `${request.progress.chunks} chunks left`)
    response.destroy()
    await request.ended()
    assert.equal(request.aborted, true)
  })

  test('headers of requests are recorded as spelled and by lower-case name; headers of answers are scripted', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ headers: { server: 'nginx', 'set-cookie': ['a=1', 'b=2'] } })
    const sending = httpRequest(`${upstream.baseUrl}/models`, { headers: { 'X-Odd-Case': 'Yes' } }).end()
    const [response] = (await once(sending, 'response')) as [IncomingMessage]
    response.resume()
    const request = await upstream.nextRequest()
    assert.equal(request.headers['x-odd-case'], 'Yes')
    assert.ok(request.rawHeaders.includes('X-Odd-Case'))
    assert.deepEqual([response.headers.server, response.headers['set-cookie']], ['nginx', ['a=1', 'b=2']])
  })

  test('a model has its own script, and a script may depend on the request', async () => {
    await using upstream = await startMockUpstream()
    upstream.script((request) => ({ text: `request ${request.index}` }))
    upstream.scriptModel('special', { text: 'special' })
    const texts: unknown[] = []
    for (const model of ['m', 'special', 'm']) {
      const answer = JSON.parse(await (await post(upstream, { ...body, model })).text())
      texts.push(answer.choices[0].message.content)
    }
    assert.deepEqual(texts, ['request 0', 'special', 'request 2'])
  })

  test('errors have either shape or a body of their own', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ trouble: { kind: 'error', status: 429, headers: { 'retry-after': '7' } } })
    const limited = await post(upstream, body)
    assert.deepEqual([limited.status, limited.headers.get('retry-after')], [429, '7'])
    assert.equal(JSON.parse(await limited.text()).error.code, 'rate_limit_exceeded')
    upstream.script({ trouble: { kind: 'error', status: 500, shape: 'anthropic' } })
    assert.equal(JSON.parse(await (await post(upstream, body)).text()).error.type, 'api_error')
    upstream.script({ trouble: { kind: 'error', status: 502, body: '<h1>Bad Gateway</h1>' } })
    assert.equal(await (await post(upstream, body)).text(), '<h1>Bad Gateway</h1>')
    upstream.script({ trouble: { kind: 'redirect', location: 'http://elsewhere.test/' } })
    const { status } = await fetch(`${upstream.baseUrl}/models`, { redirect: 'manual' })
    assert.equal(status, 307)
  })

  test('a connection is reset while connections are refused, and served again afterwards', async () => {
    await using upstream = await startMockUpstream()
    const { hostname, port } = new URL(upstream.origin)
    upstream.refuseConnections()
    const socket = connect({ host: hostname, port: Number(port) })
    const [error] = await once(socket, 'error').catch((reason) => [reason])
    assert.equal(error.code, 'ECONNRESET')
    upstream.acceptConnections()
    assert.equal((await post(upstream, body)).status, 200)
  })

  test('an answer that hangs gives nothing, or its headers alone, until the client leaves', async () => {
    await using upstream = await startMockUpstream()
    for (const kind of ['hang-before-headers', 'hang-after-headers'] as const) {
      upstream.script({ trouble: { kind } })
      const leaving = new AbortController()
      const status = post(upstream, body, { signal: leaving.signal }).then(
        (response) => response.status,
        () => 'no answer',
      )
      const request = await upstream.nextRequest()
      if (kind === 'hang-after-headers') assert.equal(await status, 200)
      leaving.abort()
      await request.ended()
      assert.equal(await status, kind === 'hang-after-headers' ? 200 : 'no answer')
      assert.deepEqual([request.aborted, request.bytesWritten], [true, 0])
    }
  })

  const unreadable: [Trouble, object][] = [
    [{ kind: 'hang-up' }, body],
    [{ kind: 'garbage-http' }, body],
    [{ kind: 'cut', afterChunks: 2 }, body],
    [{ kind: 'cut', afterChunks: 2 }, streamBody],
    [{ kind: 'cut', afterChunks: 2, where: 'mid-frame' }, streamBody],
    [{ kind: 'wrong-length', differenceBytes: 5 }, body],
  ]
  for (const [trouble, json] of unreadable) {
    const answerKind = json === body ? 'an answer in one piece' : 'a stream'
    test(`${JSON.stringify(trouble)} breaks ${answerKind}`, async () => {
      await using upstream = await startMockUpstream()
      upstream.script({ chunks: 4, completionTokens: 8, trouble })
      const reading = post(upstream, json).then((response) => response.text())
      await assert.rejects(reading, /fetch failed|terminated|other side closed/)
      const request = await upstream.nextRequest()
      assert.deepEqual([request.completed, request.aborted], [false, false])
      if (trouble.kind === 'cut') assert.equal(request.producedTokens, 4)
    })
  }

  test('a Content-Length that says too little leaves bytes over, and garbage JSON is no JSON', async () => {
    await using upstream = await startMockUpstream()
    for (const trouble of [{ kind: 'wrong-length', differenceBytes: -5 }, { kind: 'garbage-json' }] as const) {
      upstream.script({ trouble })
      await assert.rejects(
        post(upstream, body).then((response) => response.json()),
        SyntaxError,
      )
    }
  })

  test('a stream ends early, lacks its last frame, or holds an error or a garbage frame, as scripted', async () => {
    await using upstream = await startMockUpstream()
    const read = async (trouble: Trouble) => {
      upstream.script({ text: 'one two three', trouble })
      const text = await (await post(upstream, streamBody)).text()
      return text.split('\n\n').filter((frame) => frame !== '')
    }
    assert.equal((await read({ kind: 'stop', afterChunks: 1 })).length, 2)
    const unterminated = await read({ kind: 'unterminated' })
    assert.match(unterminated.at(-1) ?? '', /"usage":\{/)
    const failed = await read({ kind: 'error-frame', afterChunks: 1, message: 'out of memory' })
    assert.match(failed.at(-2) ?? '', /^data: \{"error":\{"message":"out of memory"/)
    const garbage = await read({ kind: 'garbage-frame', afterChunks: 2 })
    assert.throws(() => JSON.parse(garbage[3]?.slice('data: '.length) ?? ''), SyntaxError)
    assert.equal(garbage.at(-1), 'data: [DONE]')
  })

  test('a stream that stalls sends nothing more until the client leaves', { timeout: 10_000 }, async ({ signal }) => {
    await using upstream = await startMockUpstream()
    upstream.script({ chunks: 4, completionTokens: 8, trouble: { kind: 'stall', afterChunks: 3 } })
    const leaving = new AbortController()
    await post(upstream, streamBody, { signal: leaving.signal })
    const request = await upstream.nextRequest()
    while (request.progress.chunks < 3 && !signal.aborted) await new Promise(setImmediate)
    leaving.abort()
    await request.ended()
    assert.deepEqual([request.abortedAtChunk, request.producedTokens], [3, 6])
  })

  test('a trouble that could never strike fails loudly instead of being ignored', async () => {
    await using upstream = await startMockUpstream()
    upstream.script({ trouble: { kind: 'stop', afterChunks: 1 } })
    const response = await post(upstream, body)
    assert.equal(response.status, 500)
    assert.match(await response.text(), /'stop' has no place in an answer in one piece/)
    upstream.script({ chunks: 3, trouble: { kind: 'stop', afterChunks: 4 } })
    assert.match(await (await post(upstream, streamBody)).text(), /ends after 3 chunks/)
  })
})
