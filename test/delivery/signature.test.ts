import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { mintSigningSecret } from '../../src/access/signing-secret.ts'
import { signatureHeaders } from '../../src/delivery/signature.ts'

const body = Buffer.from('{"type":"API_BILLING_USAGE","data":{"events":[{"requestMetadata":{"name":"Zoë 🦜"}}]}}')
const requestId = 'd6a4bd5c-1f5e-4c43-9f1f-2f6f5b9ad6a4'

function headers(...secrets: string[]): Record<string, string> {
  return signatureHeaders({ requestId, nowMs: Date.now(), body, secrets })
}

test('a Standard Webhooks library accepts the signature with the secret as it was shown', () => {
  const secret = mintSigningSecret()
  assert.deepEqual(new Webhook(secret).verify(body, headers(secret)), JSON.parse(body.toString()))
})

test("X-Baseten-Signature is the HMAC-SHA256 of the raw body, in hex, keyed with the secret's text", () => {
  const secret = mintSigningSecret()
  const expected = createHmac('sha256', Buffer.from(secret, 'utf8')).update(body).digest('hex')
  assert.equal(headers(secret)['x-baseten-signature'], `v1=${expected}`)
})

test('both families carry the request id, and the time in whole seconds', () => {
  const signed = signatureHeaders({ requestId, nowMs: 1_700_000_000_999, body, secrets: [mintSigningSecret()] })
  assert.equal(signed['webhook-id'], requestId)
  assert.equal(signed['x-baseten-request-id'], requestId)
  assert.equal(signed['webhook-timestamp'], '1700000000')
})

test('during a rotation a receiver that knows either secret accepts, in both families', () => {
  const [newer, older, other] = [mintSigningSecret(), mintSigningSecret(), mintSigningSecret()]
  const signed = headers(newer, older)
  new Webhook(newer).verify(body, signed)
  new Webhook(older).verify(body, signed)
  assert.throws(() => new Webhook(other).verify(body, signed), /No matching signature/)
  const ours = [newer, older].map((secret) => `v1=${createHmac('sha256', secret).update(body).digest('hex')}`)
  assert.equal(signed['x-baseten-signature'], ours.join(','))
})

test('a changed byte of the body, id or time is rejected', () => {
  const secret = mintSigningSecret()
  const signed = headers(secret)
  const changedBody = Buffer.from(body)
  changedBody[20] = (changedBody[20] ?? 0) ^ 1
  const later = { ...signed, 'webhook-timestamp': String(Number(signed['webhook-timestamp']) + 1) }
  const verify = (bytes: Buffer, given: Record<string, string>) => () => new Webhook(secret).verify(bytes, given)
  assert.doesNotThrow(verify(body, signed))
  assert.throws(verify(changedBody, signed), /No matching signature/)
  assert.throws(verify(body, later), /No matching signature/)
  assert.throws(verify(body, { ...signed, 'webhook-id': 'another' }), /No matching signature/)
})

test('a signing secret is 32 random bytes in the form of Standard Webhooks', () => {
  const secrets = Array.from({ length: 50 }, mintSigningSecret)
  for (const secret of secrets) assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
  assert.equal(new Set(secrets).size, secrets.length)
})
