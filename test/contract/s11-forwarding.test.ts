import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

/** Contract §11: what goes upstream and what comes back. */
describe('forwarding', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl, 'secret-upstream-name')
    customer = await gateway.customer({})
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const lastRequest = () => {
    const request = upstream.requests.at(-1)
    assert.ok(request !== undefined)
    return request
  }

  test('leaves every byte of the body but the model as it was', async () => {
    upstream.script({})
    const body = `{ "temperature" : 1.0e-1,\n "seed": 12345678901234567890, "messages":[{"role":"user","content":"é\\u00e9 \\ud83d\\ude00"}] , "model" : "${defaultSlug}" ,"x":[ ] }`
    const response = await gateway.infer(customer.key, body)
    assert.equal(response.status, 200)
    assert.equal(lastRequest().bytes.toString(), body.replace(`"${defaultSlug}"`, '"secret-upstream-name"'))
  })

  test("keeps the client's key, cookies, proxy headers and hop-by-hop headers from upstream", async () => {
    upstream.script({})
    await gateway.infer(customer.key, chat(), {
      headers: {
        cookie: 'session=1',
        'x-forwarded-for': '203.0.113.9',
        'x-forwarded-host': 'evil.example',
        forwarded: 'for=203.0.113.9',
        'x-api-key': customer.key,
        'proxy-authorization': 'Basic x',
        te: 'trailers',
      },
    })
    const { headers, rawHeaders } = lastRequest()
    assert.ok(!rawHeaders.join('\n').includes(customer.key))
    for (const name of [
      'cookie',
      'x-forwarded-for',
      'x-forwarded-host',
      'forwarded',
      'x-api-key',
      'authorization',
      'te',
    ]) {
      assert.equal(headers[name], undefined, name)
    }
    assert.equal(headers['proxy-authorization'], undefined)
  })

  test('takes a body that is said not to be encoded, and does not pass on that word', async () => {
    upstream.script({})
    for (const encoding of ['identity', 'Identity', 'identity, identity']) {
      const response = await gateway.infer(customer.key, chat(), { headers: { 'content-encoding': encoding } })
      assert.equal(response.status, 200)
      await response.text()
      assert.equal(lastRequest().headers['content-encoding'], undefined)
    }
  })

  test("keeps upstream's cookies, server name and credentials from the client", async () => {
    upstream.script({
      headers: {
        'set-cookie': 'a=b',
        server: 'uvicorn',
        authorization: 'Bearer x',
        'x-upstream-host': 'gpu-7',
        via: '1.1 x',
      },
    })
    for (const stream of [false, true]) {
      const response = await gateway.infer(customer.key, chat({ stream }))
      await response.text()
      for (const name of ['set-cookie', 'server', 'authorization', 'x-upstream-host', 'via', 'x-powered-by']) {
        assert.equal(response.headers.get(name), null, name)
      }
      assert.match(response.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/)
    }
  })

  test("sends the lab's own credential for the target", async () => {
    upstream.script({})
    const secret = await gateway.manage<{ id: string }>('POST', '/v1/secrets', { name: 'upstream', value: 'sk-lab' })
    await gateway.manage('POST', '/v1/gateway/endpoints', {
      slug: 'acme/keyed',
      targets: [{ provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'm', secret_id: secret.id }],
    })
    const caller = await gateway.customer({ slug: 'acme/keyed' })
    await gateway.infer(caller.key, chat({ model: 'acme/keyed' }))
    assert.equal(lastRequest().headers.authorization, 'Bearer sk-lab')
  })

  test('gives upstream its own request id, the one that the client sees', async () => {
    upstream.script({})
    const response = await gateway.infer(customer.key, chat(), { headers: { 'x-request-id': 'chosen-by-client' } })
    assert.equal(lastRequest().headers['x-request-id'], response.headers.get('x-request-id'))
    assert.notEqual(response.headers.get('x-request-id'), 'chosen-by-client')
  })

  test('asks for the usage of a stream and keeps what else the client put in stream_options', async () => {
    upstream.script({})
    await (await gateway.infer(customer.key, chat({ stream: true, stream_options: { extra: 1 } }))).text()
    assert.deepEqual(lastRequest().body['stream_options'], { extra: 1, include_usage: true })
    await (await gateway.infer(customer.key, chat({ stream: true, stream_options: { include_usage: false } }))).text()
    assert.deepEqual(lastRequest().body['stream_options'], { include_usage: true })
    await (await gateway.infer(customer.key, chat({ stream: false }))).text()
    assert.equal(lastRequest().body['stream_options'], undefined)
  })

  test('asks for the usage of a stream without another change, whatever stream_options the client gave', async () => {
    upstream.script({})
    for (const [given, sent] of [
      [' null', ' {"include_usage":true}'],
      ['{ }', '{ "include_usage":true}'],
      ['{"seed": 12345678901234567890 }', '{"seed": 12345678901234567890 ,"include_usage":true}'],
      ['{ "include_usage" : null, "x":1.0}', '{ "include_usage" : true, "x":1.0}'],
      ['{"include_usage":false}', '{"include_usage":true}'],
      ['{"include_usage":true }', '{"include_usage":true }'],
    ] as const) {
      const body = `{"stream_options":${given},"model":"${defaultSlug}","stream":true,"messages":[{"role":"user","content":"Hi"}]}`
      const text = await (await gateway.infer(customer.key, body)).text()
      const expected = body.replace(given, sent).replace(defaultSlug, 'secret-upstream-name')
      assert.equal(lastRequest().bytes.toString(), expected)
      assert.equal(/"usage":\s*\{/.test(text), given === sent, `${given}: ${text}`)
    }
    const unstreamed = `{"model":"${defaultSlug}","messages":[{"role":"user","content":"Hi"}],"stream":null,"stream_options":{"include_usage":false}}`
    await gateway.infer(customer.key, unstreamed)
    assert.equal(lastRequest().bytes.toString(), unstreamed.replace(defaultSlug, 'secret-upstream-name'))
  })

  test('takes the next target when one is unreachable, answers 429 or 5xx, and the answer of the first that serves', async () => {
    await using spare = await startMockUpstream({ script: { text: 'from the spare' } })
    await gateway.publish('acme/failover', [upstream.baseUrl, spare.baseUrl])
    const caller = await gateway.customer({ slug: 'acme/failover' })
    for (const trouble of [
      { kind: 'error', status: 500 },
      { kind: 'error', status: 429 },
      { kind: 'hang-up' },
      { kind: 'garbage-http' },
    ] as const) {
      upstream.script({ trouble })
      const response = await gateway.infer(caller.key, chat({ model: 'acme/failover' }))
      assert.equal(response.status, 200, trouble.kind)
      assert.match(await response.text(), /from the spare/)
    }
  })

  test('keeps one connection to upstream for many requests in turn', async () => {
    upstream.script({})
    await (await gateway.infer(customer.key, chat())).text()
    const before = upstream.connectionsAccepted
    for (let request = 0; request < 10; request++) await (await gateway.infer(customer.key, chat())).text()
    assert.equal(upstream.connectionsAccepted, before)
  })
})
