import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import type { Trouble } from '../support/mock-upstream/script.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

/** Contract §11: bad requests and bad upstreams, each with a clear error in OpenAI's shape. */
describe('inference errors', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway({
      settings: {
        TOLLGATE_REQUEST_BODY_BYTES_MAX: '65536',
        TOLLGATE_REQUEST_BODY_TIMEOUT_MS: '400',
        TOLLGATE_FIRST_BYTE_TIMEOUT_MS: '300',
        TOLLGATE_IDLE_TIMEOUT_MS: '300',
      },
    })
    await gateway.publish(defaultSlug, upstream.baseUrl, 'secret-upstream-name')
    customer = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'DAY', threshold: 1_000 }] })
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  interface ErrorBody {
    error: { message: string; type: string; code: string | null; param: string | null }
  }

  async function errorOf(response: Response): Promise<ErrorBody['error']> {
    assert.equal(response.headers.get('content-type'), 'application/json')
    const text = await response.text()
    assert.doesNotMatch(
      text + JSON.stringify([...response.headers]),
      /tollgate|127\.0\.0\.1|secret-upstream-name|node_modules/i,
    )
    const { error } = JSON.parse(text) as ErrorBody
    assert.deepEqual(Object.keys(error).slice(0, 4), ['message', 'type', 'code', 'param'])
    assert.ok(error.message.length > 10)
    return error
  }

  const malformed: [name: string, body: string, param: string | null][] = [
    ['is empty', '', null],
    ['is no JSON', '{"model": ', null],
    ['has rubbish at its end', `${JSON.stringify(chat())}x`, null],
    ['is a list', '[]', null],
    ['is a number', '1', null],
    ['has no model', '{"messages":[]}', 'model'],
    ['has a model that is no string', '{"model":1}', 'model'],
    ['has an empty model', '{"model":""}', 'model'],
    ['names its model twice', `{"model":"${defaultSlug}","model":"other/x"}`, 'model'],
    ['hides its model behind an escape', `{"model":"${defaultSlug}","mod\\u0065l":"other/x"}`, 'model'],
    ['has metadata that is no object', `{"model":"${defaultSlug}","metadata":"x"}`, 'metadata'],
    ['has metadata over 16 KiB', JSON.stringify(chat({ metadata: { x: 'y'.repeat(16_400) } })), 'metadata'],
    ['has a stream of 1', JSON.stringify(chat({ stream: 1 })), 'stream'],
    ['has a stream of "true"', JSON.stringify(chat({ stream: 'true' })), 'stream'],
    ['has a stream of "on"', JSON.stringify(chat({ stream: 'on' })), 'stream'],
    ['has a stream that is a list', JSON.stringify(chat({ stream: [true] })), 'stream'],
    [
      'has stream options that are no object',
      JSON.stringify(chat({ stream: true, stream_options: 'usage' })),
      'stream_options',
    ],
    [
      'asks for usage with a 1',
      JSON.stringify(chat({ stream: true, stream_options: { include_usage: 1 } })),
      'stream_options.include_usage',
    ],
    [
      'asks for usage in two letter cases',
      JSON.stringify(chat({ stream: true, stream_options: { include_usage: true, include_Usage: false } })),
      'stream_options.include_usage',
    ],
    [
      'asks for usage twice',
      `{"model":"${defaultSlug}","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}`,
      'stream_options.include_usage',
    ],
    ['is nested too deeply', `{"model":"${defaultSlug}","x":${'['.repeat(2_000)}${']'.repeat(2_000)}}`, null],
    ['has more than 1,000 members', `{"model":"${defaultSlug}",${'"é":1,'.repeat(1_000)}"messages":[]}`, null],
    ['has a control character in a string', `{"model":"${defaultSlug}","x":"\u0000"}`, null],
  ]
  for (const [name, body, param] of malformed) {
    test(`a request body that ${name} is 400`, async () => {
      const before = upstream.requests.length
      const response = await gateway.infer(customer.key, body)
      assert.equal(response.status, 400)
      const error = await errorOf(response)
      assert.equal(error.type, 'invalid_request_error')
      assert.equal(error.param, param)
      assert.equal(upstream.requests.length, before)
    })
  }

  test('a compressed request body is 400', async () => {
    for (const encoding of ['gzip', 'identity, br', '']) {
      const response = await gateway.infer(customer.key, chat(), { headers: { 'content-encoding': encoding } })
      assert.equal(response.status, 400)
      await errorOf(response)
    }
  })

  test('a request body over the limit is 413, declared or not', async () => {
    const tooLarge = JSON.stringify(chat({ padding: 'x'.repeat(70_000) }))
    const declared = await gateway.infer(customer.key, tooLarge)
    assert.equal(declared.status, 413)
    assert.equal((await errorOf(declared)).code, 'request_too_large')

    const undeclared = await fetch(`${gateway.inference}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${customer.key}` },
      body: new Blob([tooLarge]).stream(),
      duplex: 'half',
    } as RequestInit)
    assert.equal(undeclared.status, 413)
  })

  test('a request body that does not arrive in time is 408', async () => {
    const { port } = new URL(gateway.inference)
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${customer.key}\r\ncontent-length: 100\r\n\r\n{"model`,
    )
    const answer = Buffer.concat(await Array.fromAsync(socket)).toString()
    assert.match(answer, /^HTTP\/1\.1 408 /)
    assert.match(answer, /"code":"request_timeout"/)
  })

  test('a stranger is refused before a byte of the body is read', async () => {
    const { port } = new URL(gateway.inference)
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer nobody\r\ncontent-length: 1000\r\n\r\n',
    )
    const [answer] = await Array.fromAsync(socket.take(1))
    assert.match(String(answer), /^HTTP\/1\.1 401 /)
    socket.destroy()
  })

  for (const authorization of [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Basic dXNlcjpwYXNz',
    'tk_only.prefix',
    'Bearer tk_unknown.0123456789012345678901234567890123456789',
    'Api-Key x y',
  ]) {
    test(`the Authorization header ${JSON.stringify(authorization)} is 401, always with the same answer`, async () => {
      const response = await fetch(`${gateway.inference}/v1/models`, {
        headers: authorization === undefined ? {} : { authorization },
      })
      assert.equal(response.status, 401)
      const error = await errorOf(response)
      assert.equal(error.code, 'invalid_api_key')
      assert.equal(error.message, 'The API key is missing or not valid.')
    })
  }

  test('scheme names are taken in any case, and keys of other kinds are unknown here', async () => {
    for (const scheme of ['bearer', 'BEARER', 'Api-Key', 'api-key', 'API-KEY']) {
      const response = await fetch(`${gateway.inference}/v1/models`, {
        headers: { authorization: `${scheme} ${customer.key}` },
      })
      assert.equal(response.status, 200, scheme)
    }
    const operator = await fetch(`${gateway.inference}/v1/models`, {
      headers: { authorization: `Bearer ${gateway.operatorKey}` },
    })
    assert.equal(operator.status, 401)
  })

  test('a model that is not served and one that is not allowed get the same 404', async () => {
    await gateway.publish('acme/unlisted', upstream.baseUrl)
    const messages = new Set<string>()
    for (const model of ['acme/unlisted', 'acme/missing']) {
      const response = await gateway.infer(customer.key, chat({ model }))
      assert.equal(response.status, 404)
      const error = await errorOf(response)
      assert.equal(error.code, 'model_not_found')
      messages.add(error.message.replace(model, '…'))
    }
    assert.equal(messages.size, 1)
  })

  test('a slug as long as any can be is served, and the answer to a longer one repeats its beginning only', async () => {
    const longest = `acme/${'x'.repeat(250)}`
    await gateway.publish(longest, upstream.baseUrl)
    await assert.rejects(gateway.publish(`${longest}x`, upstream.baseUrl), /400/)
    upstream.script({})
    const workspaceKey = gateway.workspaceKey
    assert.equal((await gateway.infer(workspaceKey, chat({ model: longest }))).status, 200)
    for (const model of [`${longest}x`, `${longest}${'\u0001'.repeat(9_000)}`]) {
      const response = await gateway.infer(workspaceKey, chat({ model }))
      assert.equal(response.status, 404)
      const { code, message } = await errorOf(response)
      assert.equal(code, 'model_not_found')
      assert.equal(message, `The model '${longest}…' does not exist or you do not have access to it.`)
    }
  })

  test('an unknown path is 404 and a wrong method 405', async () => {
    assert.equal((await fetch(`${gateway.inference}/v1/unknown`)).status, 404)
    assert.equal((await fetch(`${gateway.inference}/v1/chat/completions`)).status, 405)
    assert.equal((await fetch(`${gateway.inference}/v1/models`, { method: 'POST' })).status, 405)
  })

  test('/health needs no key', async () => {
    assert.equal((await fetch(`${gateway.inference}/health`)).status, 200)
  })

  const troubles: [name: string, trouble: Trouble, status: number][] = [
    ['answers 400', { kind: 'error', status: 400, message: 'secret-upstream-name does not do that' }, 400],
    ['answers 422 in FastAPI form', { kind: 'error', status: 422, body: { detail: 'messages: field required' } }, 422],
    ['answers 429', { kind: 'error', status: 429 }, 429],
    ['answers 404 with HTML', { kind: 'error', status: 404, body: '<h1>nginx at 127.0.0.1</h1>' }, 404],
    ['answers 500', { kind: 'error', status: 500 }, 502],
    ['answers 503 with HTML', { kind: 'error', status: 503, body: '<h1>Service Unavailable</h1>' }, 502],
    ['redirects', { kind: 'redirect', location: 'http://169.254.169.254/' }, 502],
    ['closes the connection', { kind: 'hang-up' }, 502],
    ['sends what is no HTTP', { kind: 'garbage-http' }, 502],
    ['sends what is no JSON', { kind: 'garbage-json' }, 502],
    ['promises more bytes than it sends', { kind: 'wrong-length', differenceBytes: 50 }, 502],
    ['breaks off in the middle', { kind: 'cut', afterChunks: 1 }, 502],
    ['gives no headers', { kind: 'hang-before-headers' }, 504],
    ['gives no body', { kind: 'hang-after-headers' }, 504],
  ]
  for (const [name, trouble, status] of troubles) {
    test(`an upstream that ${name} is ${status}, and gives back what the request took`, async () => {
      const usage = async () =>
        JSON.stringify(await gateway.manage('GET', `/v1/gateway/groups/${customer.groupId}/usage`))
      const before = await usage()
      upstream.script({ trouble })
      const response = await gateway.infer(customer.key, chat())
      assert.equal(response.status, status)
      await errorOf(response)
      assert.equal(await usage(), before)
    })
  }

  test('an upstream’s host is in no message, in whatever way upstream writes it', async () => {
    const { port } = new URL(upstream.origin)
    await gateway.publish('acme/local', `http://localhost:${port}/v1`)
    const caller = await gateway.customer({ slug: 'acme/local' })
    const told: [slug: string, key: string, message: string, shown: string][] = [
      [defaultSlug, customer.key, `worker 127.0.0.1:${port} is down`, 'worker the model is down'],
      [defaultSlug, customer.key, 'see http://127.0.0.1/docs.', 'see http://the model/docs.'],
      [defaultSlug, customer.key, 'line 1127.0.0.10', 'line 1127.0.0.10'],
      ['acme/local', caller.key, `worker LOCALHOST:${port} is down`, 'worker the model is down'],
      ['acme/local', caller.key, 'Localhost is down at localhost.', 'the model is down at the model.'],
      ['acme/local', caller.key, 'localhosts are my-localhost.x', 'localhosts are my-localhost.x'],
    ]
    for (const [slug, key, message, shown] of told) {
      upstream.script({ trouble: { kind: 'error', status: 400, message } })
      const response = await gateway.infer(key, chat({ model: slug }))
      assert.equal(((await response.json()) as ErrorBody).error.message, shown)
    }
  })

  test("an upstream that quotes the lab's credential is not quoted", async () => {
    const secret = await gateway.manage<{ id: string }>('POST', '/v1/secrets', {
      name: 'ours',
      value: 'sk-lab-0123456789',
    })
    await gateway.manage('POST', '/v1/gateway/endpoints', {
      slug: 'acme/secret',
      targets: [{ provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'm', secret_id: secret.id }],
    })
    const caller = await gateway.customer({ slug: 'acme/secret' })
    const errorFor = async (message: string) => {
      const body = { error: { message, type: 'auth', code: 'invalid_api_key', param: 'key' } }
      upstream.script({ trouble: { kind: 'error', status: 401, body, headers: { 'retry-after': '7' } } })
      const response = await gateway.infer(caller.key, chat({ model: 'acme/secret' }))
      assert.equal(response.status, 401)
      assert.equal(response.headers.get('retry-after'), '7')
      return ((await response.json()) as ErrorBody).error
    }
    assert.deepEqual(await errorFor('Incorrect API key provided: sk-lab-0***6789.'), {
      message: 'The model refused the request. Your API key is not the reason.',
      type: 'invalid_request_error',
      code: null,
      param: null,
    })
    assert.equal((await errorFor('This project has no access.')).message, 'This project has no access.')
  })

  test('an upstream that nobody listens at is 502', async () => {
    await gateway.publish('acme/gone', 'http://127.0.0.1:1/v1')
    const caller = await gateway.customer({ slug: 'acme/gone' })
    const response = await gateway.infer(caller.key, chat({ model: 'acme/gone' }))
    assert.equal(response.status, 502)
    await errorOf(response)
  })
})
