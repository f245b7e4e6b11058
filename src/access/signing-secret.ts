import { randomBytes } from 'node:crypto'

const prefix = 'whsec_'

/** A new signing secret of a webhook, in the form of Standard Webhooks: `whsec_` and 32 random bytes in base64. */
export function mintSigningSecret(): string {
  return prefix + randomBytes(32).toString('base64')
}

/** The key that Standard Webhooks signs with: the bytes that the secret's text stands for. */
export function signingSecretBytes(secret: string): Buffer {
  return Buffer.from(secret.slice(prefix.length), 'base64')
}

/** What a signing secret is sealed for: its webhook, and no other. */
export function signingSecretPurpose(webhookId: string): string {
  return `webhook ${webhookId}`
}
