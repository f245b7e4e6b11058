import { createHmac } from 'node:crypto'
import { signingSecretBytes } from '../access/signing-secret.ts'

export interface Signed {
  /** The delivery's UUID, the same on every attempt. */
  requestId: string
  /** When the attempt is made: receivers refuse what is older than some minutes. */
  nowMs: number
  body: Buffer
  /** One, or two while a rotation lasts, the newer one first; a receiver that knows either accepts. */
  secrets: readonly string[]
}

/**
 * The headers by which a receiver knows that we sent these bytes (contract §14), in two families. One signing secret
 * serves both: `X-Baseten-Signature` is keyed with the secret's text as it stands, and signs the body alone;
 * `webhook-signature` (Standard Webhooks 1.0) is keyed with the bytes that the text stands for after `whsec_`, and signs
 * id, time and body.
 */
export function signatureHeaders({ requestId, nowMs, body, secrets }: Signed): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1_000))
  const standard = secrets.map((secret) => {
    const mac = createHmac('sha256', signingSecretBytes(secret)).update(`${requestId}.${timestamp}.`).update(body)
    return `v1,${mac.digest('base64')}`
  })
  const ours = secrets.map((secret) => `v1=${createHmac('sha256', secret).update(body).digest('hex')}`)
  return {
    'x-baseten-request-id': requestId,
    'x-baseten-signature': ours.join(','),
    'webhook-id': requestId,
    'webhook-timestamp': timestamp,
    'webhook-signature': standard.join(' '),
  }
}
