import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { until } from '../support/until.ts'

interface Minted {
  api_key: string
  prefix: string
  name: string | null
}

/** Contract §8, with the keys in use on the inference listener. */
describe('keys that are registered, rotated and expire', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer
  const clock = new ManualClock('2026-03-01T10:00:00.000Z')
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const publicBytes = Buffer.from(String(publicKey.export({ format: 'jwk' }).x), 'base64url')

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway({ clock })
    await gateway.publish(defaultSlug, upstream.baseUrl)
    customer = await gateway.customer({})
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const keys = () => `/v1/gateway/groups/${customer.groupId}/api_keys`
  const statusOf = async (key: string) => {
    const response = await gateway.infer(key, chat())
    await response.text()
    return response.status
  }
  const post = async (path: string, body: string, headers: Record<string, string> = {}) => {
    // The clock stands still: each call is one of the 100 that a second admits.
    clock.advance(20)
    const response = await fetch(gateway.management + path, {
      method: 'POST',
      headers: { authorization: `Api-Key ${gateway.workspaceKey}`, 'content-type': 'application/json', ...headers },
      body,
    })
    return { status: response.status, body: (await response.json()) as { ok?: boolean; message?: string } }
  }
  const register = (key: string, given: { body?: string; signed?: string } = {}) => {
    const body = given.body ?? JSON.stringify({ key, name: 'own' })
    const signature = sign(null, Buffer.from(given.signed ?? body), privateKey)
    return post(`${keys()}/register`, body, { 'x-baseten-signature': signature.toString('base64') })
  }

  test('registering needs a public key', async () => {
    const refused = await register(randomBytes(30).toString('hex'))
    assert.equal(refused.status, 400)
    assert.equal(refused.body.message, 'Must configure a public key before registering API keys')
    const unsigned = await post(`${keys()}/register`, JSON.stringify({ key: randomBytes(30).toString('hex') }))
    assert.deepEqual([unsigned.status, unsigned.body], [400, refused.body])
  })

  describe('with a public key', () => {
    before(async () => {
      const { items } = await gateway.manage<{ items: { id: string }[] }>('GET', '/v1/operator/workspaces')
      await gateway.manage('PATCH', `/v1/operator/workspaces/${items[0]?.id}`, {
        register_public_key: publicBytes.toString('base64'),
      })
    })

    test('a signed key of one’s own works for inference, whatever its form', async () => {
      for (const key of [
        randomBytes(30).toString('hex'),
        `sk-${randomBytes(20).toString('hex')}`,
        `${randomBytes(8).toString('hex')}.a.b.${randomBytes(8).toString('hex')}`,
      ]) {
        const { status, body } = await register(key)
        assert.deepEqual([status, body], [200, { ok: true }])
        assert.equal(await statusOf(key), 200)
        const listed = await gateway.manage<{ items: { prefix: string }[] }>('GET', keys())
        assert.ok(listed.items.some(({ prefix }) => prefix === key.slice(0, 16)))
      }
    })

    test('the signature is over the exact bytes', async () => {
      const key = randomBytes(30).toString('hex')
      const body = JSON.stringify({ key })
      for (const signed of [`${body} `, JSON.stringify({ key: `${key}x` }), '']) {
        const refused = await register(key, { body, signed })
        assert.deepEqual([refused.status, refused.body.message], [400, 'Signature verification failed'])
      }
      for (const headers of [{}, { 'x-baseten-signature': '' }, { 'x-baseten-signature': 'AAAA' }]) {
        const unsigned = await post(`${keys()}/register`, body, headers)
        assert.deepEqual([unsigned.status, unsigned.body.message], [400, 'Signature verification failed'])
      }
      assert.equal(await statusOf(key), 401)
    })

    test('a key that is too short, too long, too plain or taken is refused', async () => {
      const taken = randomBytes(30).toString('hex')
      await register(taken)
      for (const [key, message] of [
        ['x'.repeat(31), /32 to 128/],
        [randomBytes(65).toString('hex'), /32 to 128/],
        ['abababab'.repeat(5), /entropy/],
        [`${randomBytes(16).toString('hex')} with spaces`, /printable/],
        [taken, /already taken/],
        [taken.slice(0, 16) + randomBytes(20).toString('hex'), /already taken/],
      ] as const) {
        const { status, body } = await register(key)
        assert.equal(status, 400, key)
        assert.match(String(body.message), message)
      }
    })

    test('of many registrations of one key at once, one succeeds', async () => {
      const key = randomBytes(30).toString('hex')
      const answers = await Promise.all(Array.from({ length: 8 }, () => register(key)))
      assert.equal(answers.filter(({ status }) => status === 200).length, 1)
      assert.equal(answers.filter(({ status }) => status === 400).length, 7)
    })
  })

  test('a key ends at the time that it was given', async () => {
    const expires_at = new Date(clock.now() + 60_000).toISOString()
    const { api_key, prefix } = await gateway.manage<Minted>('POST', keys(), { expires_at })
    const shown = await gateway.manage('GET', `${keys()}/${prefix}`)
    assert.equal(shown['expires_at'], expires_at)
    clock.advance(59_999)
    assert.equal(await statusOf(api_key), 200)
    clock.advance(1)
    assert.equal(await statusOf(api_key), 401)
    const past = await post(keys(), JSON.stringify({ expires_at: new Date(clock.now()).toISOString() }))
    assert.equal(past.status, 400)
  })

  test('a rotated key works until its grace is over, and its successor from the start', async () => {
    const old = await gateway.manage<Minted>('POST', keys(), { name: 'rotated' })
    const successor = await gateway.manage<Minted>('POST', `${keys()}/${old.prefix}/rotate`, { grace_seconds: 30 })
    assert.equal(successor.name, 'rotated')
    assert.equal(await statusOf(successor.api_key), 200)
    clock.advance(29_999)
    assert.equal(await statusOf(old.api_key), 200)
    clock.advance(1)
    assert.equal(await statusOf(old.api_key), 401)
    assert.equal(await statusOf(successor.api_key), 200)
  })

  test('without a grace the old key ends at once, for good', async () => {
    const old = await gateway.manage<Minted>('POST', keys(), {})
    await gateway.manage('POST', `${keys()}/${old.prefix}/rotate`, { grace_seconds: 0 })
    assert.equal(await statusOf(old.api_key), 401)
    const again = await post(`${keys()}/${old.prefix}/rotate`, '{"grace_seconds":0}')
    assert.equal(again.status, 404)
  })

  test('of many rotations of one key at once, one makes a successor', async () => {
    const old = await gateway.manage<Minted>('POST', keys(), {})
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => post(`${keys()}/${old.prefix}/rotate`, '{"grace_seconds":60}')),
    )
    assert.equal(answers.filter(({ status }) => status === 200).length, 1)
    assert.ok(answers.every(({ status, body }) => status === 200 || /rotated already/.test(String(body.message))))
  })

  test('a key that is revoked in the middle of a stream lets it finish, and no other start', async () => {
    upstream.script({ text: 'one two three', pace: 'manual' })
    const { api_key, prefix } = await gateway.manage<Minted>('POST', keys(), {})
    const seen = upstream.requests.length
    const responding = gateway.infer(api_key, chat({ stream: true }))
    const request = await until(() => upstream.requests.at(seen))
    await request.release(1)
    const response = await responding
    await gateway.manage('DELETE', `${keys()}/${prefix}`)
    assert.equal(await statusOf(api_key), 401)
    await request.finish()
    assert.match(await response.text(), /three[\s\S]*\[DONE\]/)
    upstream.script({})
  })
})
