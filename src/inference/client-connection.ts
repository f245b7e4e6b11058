import type { ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'
import { atEndOfTurn } from '../end-of-turn.ts'
import { joined } from '../joined.ts'
import type { Refusal } from './refusal.ts'

/** How an API of the inference listener tells its callers that something went wrong. */
export type RenderError = (refusal: Refusal, requestId: string) => object

/** Names and values in turn: the form in which `node:http` takes headers without making an object of them. */
export type HeaderList = readonly string[]

/**
 * The client's side of one exchange: answers are written through it, and it knows, at once, when the client
 * has gone. Writing to a client that has gone does nothing.
 */
export class ClientConnection {
  readonly requestId: string
  status = 0
  /** What is called, once that is known and allowed: the label of this request's metrics. */
  slug: string | null = null
  readonly #outgoing: ServerResponse
  readonly #renderError: RenderError
  readonly #whenGone: (() => void)[] = []
  /** What every answer of this exchange carries. */
  readonly #headers: string[]
  #gone = false
  /** What was written in this turn. */
  readonly #waiting: Buffer[] = []
  #waitingBytes = 0
  #hasBodyBegun = false
  #isFull = false
  #whenDrained = (): void => {}

  constructor(outgoing: ServerResponse, { requestId, renderError }: { requestId: string; renderError: RenderError }) {
    this.requestId = requestId
    this.#outgoing = outgoing
    this.#renderError = renderError
    this.#headers = ['x-request-id', requestId]
    outgoing.once('close', () => {
      if (outgoing.writableFinished) return
      this.#gone = true
      for (const callback of this.#whenGone) callback()
    })
  }

  get isGone(): boolean {
    return this.#gone
  }

  onGone(callback: () => void): void {
    if (this.#gone) callback()
    else this.#whenGone.push(callback)
  }

  /** Headers that every answer of this exchange carries from now on. */
  addHeaders(headers: HeaderList): void {
    this.#headers.push(...headers)
  }

  /** Sends the head at once: a stream's client learns that it was accepted before the first token. */
  start(status: number, headers: HeaderList): void {
    this.status = status
    this.#outgoing.writeHead(status, [...headers, ...this.#headers])
  }

  get started(): boolean {
    return this.#outgoing.headersSent
  }

  /** False when the client reads more slowly than this is written: wait for `onDrain` before writing on. */
  write(bytes: Buffer): boolean {
    // A chunk without bytes would end the answer.
    if (this.#gone || bytes.length === 0) return true
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#waiting.length === 1) atEndOfTurn(this.#writeWaiting)
    this.#isFull = this.#outgoing.writableLength + this.#waitingBytes > this.#outgoing.writableHighWaterMark
    return !this.#isFull
  }

  onDrain(callback: () => void): void {
    this.#whenDrained = callback
  }

  end(bytes?: Buffer): void {
    atEndOfTurn(() => {
      if (!this.#gone) this.#outgoing.end(bytes)
    })
  }

  /** Cuts the connection, so that what was sent cannot be taken for a complete answer. */
  cut(): void {
    this.#outgoing.destroy()
  }

  /** Answers with an error in the dialect of the API that was called. */
  refuse(refusal: Refusal): void {
    if (this.#gone) return
    this.sendJson(refusal.status, this.#renderError(refusal, this.requestId), refusal.headers)
  }

  sendJson(status: number, body: object, headers: HeaderList = []): void {
    const bytes = Buffer.from(JSON.stringify(body))
    this.start(status, [...headers, 'content-type', 'application/json', 'content-length', String(bytes.length)])
    this.end(bytes)
  }

  readonly #writeWaiting = (): void => {
    if (this.#gone) return
    const bytes = joined(this.#waiting)
    this.#waiting.length = 0
    this.#waitingBytes = 0
    const stream = this.#bodyStream()
    const hasRoom = stream.write(stream === this.#outgoing ? bytes : httpChunk(bytes))
    this.#hasBodyBegun = true
    if (!this.#isFull) return
    if (hasRoom) this.#whenDrained()
    else stream.once('drain', this.#whenDrained)
  }

  /**
   * Where the next bytes of the body go. `ServerResponse` makes four buffers of a chunk, which takes more than all else
   * that is done for it: once the head has left, chunks are put together here and go to the socket, which carries
   * nothing but this response; it is null while an earlier one is under way on the same connection.
   */
  #bodyStream(): Writable {
    const { socket, chunkedEncoding } = this.#outgoing
    return this.#hasBodyBegun && chunkedEncoding && socket !== null ? socket : this.#outgoing
  }
}

/** RFC 9112 §7.1. */
function httpChunk(data: Buffer): Buffer {
  const size = `${data.length.toString(16)}\r\n`
  const dataEnd = size.length + data.length
  const chunk = Buffer.allocUnsafe(dataEnd + 2)
  chunk.write(size, 'latin1')
  chunk.set(data, size.length)
  chunk[dataEnd] = carriageReturn
  chunk[dataEnd + 1] = lineFeed
  return chunk
}

const carriageReturn = 0x0d
const lineFeed = 0x0a
