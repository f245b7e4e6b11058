import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { SecretRow } from './tables.ts'

const nonceBytes = 12
const tagBytes = 16

/**
 * Encrypts what must be read back (upstream credentials, webhook signing secrets) with AES-256-GCM under the
 * installation's master key. `purpose` is authenticated too: a value moved to another row does not open.
 */
export class SecretBox {
  readonly #masterKey: Buffer

  constructor(masterKey: Buffer) {
    this.#masterKey = masterKey
  }

  seal(plain: string, purpose: string): string {
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv('aes-256-gcm', this.#masterKey, nonce).setAAD(Buffer.from(purpose))
    const sealed = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64')
  }

  /** Throws when the value was sealed under another key or for another purpose, or was changed. */
  open(sealed: string, purpose: string): string {
    const bytes = Buffer.from(sealed, 'base64')
    const nonce = bytes.subarray(0, nonceBytes)
    const decipher = createDecipheriv('aes-256-gcm', this.#masterKey, nonce)
      .setAAD(Buffer.from(purpose))
      .setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes))
    return decipher.update(bytes.subarray(nonceBytes + tagBytes), undefined, 'utf8') + decipher.final('utf8')
  }
}

/** What a stored secret is sealed for: its row, and no other. */
export function secretPurpose({ workspace_id, name }: Pick<SecretRow, 'workspace_id' | 'name'>): string {
  return `secret ${workspace_id} ${name}`
}
