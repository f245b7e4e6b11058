import { joined } from '../joined.ts'
import type { RequestHead } from './request-reader.ts'

/** What the connection of a request does for it. */
export interface RequestSource {
  /** Lets the client send the body, where it waits to be told so. */
  askForBody(): void
  /** Stops reading from the client until `resume`. */
  pause(): void
  resume(): void
}

/** As much as the kernel may hand over at a time is kept of a body that nobody has asked for yet. */
const unreadBytesMax = 64 * 1024

/** One request of a client: its head, and its body for whoever asks for it. */
export class InboundRequest {
  readonly method: RequestHead['method']
  readonly target: RequestHead['target']
  readonly host: RequestHead['host']
  readonly headers: RequestHead['headers']
  readonly #bodyLength: RequestHead['bodyLength']
  readonly #source: RequestSource
  #chunks: Buffer[] = []
  #length = 0
  #state: 'coming' | 'complete' | 'cut off' = 'coming'
  #isForgotten = false
  #reading: { bytesMax: number; resolve: (body: Body) => void } | null = null

  constructor({ method, target, host, headers, bodyLength }: RequestHead, source: RequestSource) {
    this.method = method
    this.target = target
    this.host = host
    this.headers = headers
    this.#bodyLength = bodyLength
    this.#source = source
  }

  /** Whether all of the body has come. */
  get isComplete(): boolean {
    return this.#state === 'complete'
  }

  /**
   * The whole body, or why there is none: larger than `bytesMax`, or cut off by a client that left or was too slow.
   * Never holds more than `bytesMax` and one chunk. To be called once.
   */
  body({ bytesMax }: { bytesMax: number }): Promise<Body> {
    return new Promise((resolve) => {
      this.#reading = { bytesMax, resolve }
      if (this.#bodyLength !== 'chunked' && this.#bodyLength > bytesMax) return this.#answerTooLarge()
      if (this.#state === 'coming') this.#source.askForBody()
      this.#source.resume()
      this.#answerWhenKnown()
    })
  }

  /** What is still to come of the body is read and forgotten. */
  forget(): void {
    this.#isForgotten = true
    this.#chunks = []
    this.#source.resume()
  }

  /** The connection has read a part of the body. */
  take(chunk: Buffer): void {
    if (this.#isForgotten) return
    this.#chunks.push(chunk)
    this.#length += chunk.length
    if (this.#reading === null && this.#length >= unreadBytesMax) this.#source.pause()
    this.#answerWhenKnown()
  }

  /** The connection has read the last of the body. */
  complete(): void {
    this.#state = 'complete'
    this.#answerWhenKnown()
  }

  /** The connection will read no more. */
  cutOff(): void {
    if (this.#state === 'coming') this.#state = 'cut off'
    this.#answerWhenKnown()
  }

  #answerWhenKnown(): void {
    if (this.#reading === null) return
    const { bytesMax, resolve } = this.#reading
    if (this.#length > bytesMax) this.#answerTooLarge()
    else if (this.#state === 'complete') resolve(joined(this.#chunks))
    else if (this.#state === 'cut off') resolve('cut-off')
  }

  #answerTooLarge(): void {
    this.#reading?.resolve('too-large')
    this.forget()
  }
}

export type Body = Buffer | 'too-large' | 'cut-off'
