import type { HeaderList } from '../http1/headers.ts'
import { joined } from '../joined.ts'
import type { ClientConnection } from './client-connection.ts'
import { lastingCopy } from './response-tap.ts'

const heldBytesMax = 256 * 1024

/**
 * Writes an answer's body to the client. One that `holds` starts late: an answer in one piece that breaks off while
 * it is still small can then become a clean error; once it is larger than that, it flows.
 */
export class AnswerWriter {
  readonly #client: ClientConnection
  readonly #headers: HeaderList
  readonly #holds: boolean
  #held: Buffer[] = []
  #heldBytes = 0
  #started = false

  constructor(client: ClientConnection, { headers, holds }: { headers: HeaderList; holds: boolean }) {
    this.#client = client
    this.#headers = headers
    this.#holds = holds
  }

  /** Whether the client has been told that this is a 200. */
  get started(): boolean {
    return this.#started
  }

  /** False when the client reads more slowly than this is written. */
  write(bytes: Buffer): boolean {
    if (this.#started) return this.#client.write(bytes)
    this.#held.push(this.#held.length === 0 ? bytes : lastingCopy(bytes))
    this.#heldBytes += bytes.length
    if (this.#holds && this.#heldBytes <= heldBytesMax) return true
    this.#start({ bodyLength: null })
    const held = this.#takeHeld()
    return this.#client.write(held)
  }

  end(final: Buffer): void {
    if (!this.#started) this.#start({ bodyLength: this.#heldBytes + final.length })
    this.#held.push(final)
    this.#client.end(this.#takeHeld())
  }

  #start(body: { bodyLength: number | null }): void {
    this.#started = true
    this.#client.start(200, this.#headers, body)
  }

  #takeHeld(): Buffer {
    const held = joined(this.#held)
    this.#held = []
    return held
  }
}
