import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

/** Contract §16. */
describe("the labs' own domains", () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer
  let stranger: string

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway({
      settings: { TOLLGATE_RESERVED_HOSTNAMES: 'gateway.example.com, Other.example.com' },
    })
    await gateway.publish(defaultSlug, upstream.baseUrl)
    customer = await gateway.customer({})
    const workspace = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', {
      name: 'other lab',
      org_prefixes: ['other'],
    })
    stranger = workspace.api_key
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  /** The status of a list of models, asked for under `host`, also by a URL in place of a path. */
  const statusUnder = (host: string, key: string, path = '/v1/models') =>
    new Promise<number | undefined>((resolve, reject) => {
      const options = { path, headers: { host, authorization: `Bearer ${key}` } }
      request(gateway.inference, options, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
        .on('error', reject)
        .end()
    })
  const claim = (hostname: string) =>
    gateway.manage<{ id: string; hostname: string }>('POST', '/v1/gateway/domains', { hostname })
  const check = async (domain: string) =>
    (await fetch(`${gateway.management}/v1/gateway/domains/check?domain=${domain}`)).status

  test("on a lab's domain its own keys work and no other lab's", async () => {
    const { id } = await claim('api.acme-lab.com')
    for (const host of ['api.acme-lab.com', 'API.acme-lab.com:443', 'api.acme-lab.com.', 'Api.acme-lab.com.:443']) {
      assert.equal(await statusUnder(host, customer.key), 200, host)
      assert.equal(await statusUnder(host, stranger), 401, host)
    }
    assert.equal(await statusUnder('elsewhere.example.com', stranger), 200)
    await gateway.manage('DELETE', `/v1/gateway/domains/${id}`)
    assert.equal(await statusUnder('api.acme-lab.com', stranger), 200)
  })

  test('a hostname that the operator has reserved is claimed by nobody', async () => {
    for (const hostname of ['gateway.example.com', 'OTHER.example.com']) {
      const response = await fetch(`${gateway.management}/v1/gateway/domains`, {
        method: 'POST',
        headers: { authorization: `Api-Key ${gateway.workspaceKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ hostname }),
      })
      assert.equal(response.status, 400)
      assert.match(await response.text(), /belongs to the installation/)
      assert.equal(await statusUnder(hostname, stranger), 200)
    }
  })

  test('the host of an absolute URL counts, whatever the header says', async () => {
    const { id } = await claim('api.acme-lab.com')
    const claimed = 'http://api.acme-lab.com/v1/models'
    const other = 'https://elsewhere.example.com:443/v1/models'
    assert.equal(await statusUnder('api.acme-lab.com', customer.key, claimed), 200)
    assert.equal(await statusUnder('api.acme-lab.com', stranger, claimed), 401)
    assert.equal(await statusUnder('elsewhere.example.com', stranger, claimed), 401)
    assert.equal(await statusUnder('elsewhere.example.com', stranger, 'HTTP://API.acme-lab.com.:80/v1/models'), 401)
    assert.equal(await statusUnder('api.acme-lab.com', stranger, other), 200)
    await gateway.manage('DELETE', `/v1/gateway/domains/${id}`)
  })

  test('the check for certificates on demand knows claimed hostnames and no others, without a key', async () => {
    assert.equal(await check('checked.acme-lab.com'), 404)
    await claim('checked.acme-lab.com')
    assert.equal(await check('checked.acme-lab.com'), 200)
    assert.equal(await check('Checked.acme-lab.com'), 200)
    assert.equal(await check('acme-lab.com'), 404)
    assert.equal(await check(''), 400)
  })

  test('a hostname is kept as clients send it, and belongs to one workspace', async () => {
    assert.equal((await claim('MÜNCHEN.Example.com')).hostname, 'xn--mnchen-3ya.example.com')
    await assert.rejects(claim('xn--mnchen-3ya.example.com'), /answered 400.*already taken/)
    for (const hostname of [
      '',
      'localhost',
      '127.0.0.1',
      '::1',
      'https://a.com',
      'a.com:443',
      'a.com/x',
      'a b.com',
      '-a.com',
      '*.a.com',
    ]) {
      await assert.rejects(claim(hostname), /answered 400/, hostname)
    }
  })

  test('nothing in an inference response or error names the product', async () => {
    const responses = [
      await fetch(`${gateway.inference}/health`),
      await fetch(`${gateway.inference}/nowhere`),
      await fetch(`${gateway.inference}/v1/models`),
      await fetch(`${gateway.inference}/v1/models`, { headers: { authorization: `Bearer ${customer.key}` } }),
      await gateway.infer(customer.key, chat()),
      await gateway.infer(customer.key, chat({ stream: true })),
      await gateway.infer(customer.key, '{'),
      await gateway.infer(customer.key, chat({ model: 'acme/none' })),
    ]
    upstream.script({ trouble: { kind: 'error', status: 500 } })
    responses.push(await gateway.infer(customer.key, chat()))
    for (const response of responses) {
      assert.doesNotMatch(JSON.stringify([...response.headers]) + (await response.text()), /tollgate/i)
    }
  })
})
