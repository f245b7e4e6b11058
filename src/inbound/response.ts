import type { Writable } from 'node:stream'
import { atEndOfTurn } from '../end-of-turn.ts'
import type { HeaderList } from '../http1/headers.ts'
import { responseHead } from '../http1/response-head.ts'
import { lengthOf, writePieces } from '../http1/write-pieces.ts'
import type { RequestHead } from './request-reader.ts'

/** What the connection of a response knows and does. */
export interface ResponseCarrier {
  readonly stream: Writable
  /** Asked when the head is written: whether another request may follow. */
  keepsAlive(): boolean
  /** The headers that say so, and the date. */
  connectionHeaders(keepsAlive: boolean): string
  /** The last byte was given to the stream. */
  ended(keepsAlive: boolean): void
  destroy(): void
}

/**
 * One response to a client. What is written in a turn of the event loop leaves at its end, head, body and frames of HTTP
 * chunks as one buffer. Writing to a client that has gone does nothing; nor does anything once the response is over, for
 * the connection may then carry the next one.
 */
export class InboundResponse {
  readonly #carrier: ResponseCarrier
  /** False for the answer to HEAD. */
  readonly #hasBody: boolean
  readonly #readsChunks: boolean
  readonly #whenGone: (() => void)[] = []
  #whenDrained = (): void => {}
  #isGone = false
  #isStarted = false
  #isEnding = false
  #isOver = false
  #isChunked = false
  #keepsAlive = false
  /** What was written in this turn. */
  #head = ''
  #body: Buffer[] = []
  #isFull = false
  #isScheduled = false

  constructor(carrier: ResponseCarrier, { method, readsChunks }: Pick<RequestHead, 'method' | 'readsChunks'>) {
    this.#carrier = carrier
    this.#hasBody = method !== 'HEAD'
    this.#readsChunks = readsChunks
  }

  get isStarted(): boolean {
    return this.#isStarted
  }

  /** Whether the client left before the end of the response. */
  get isGone(): boolean {
    return this.#isGone
  }

  /** Whether all of it was given to the connection. */
  get isOver(): boolean {
    return this.#isOver
  }

  onGone(callback: () => void): void {
    if (this.#isGone) callback()
    else this.#whenGone.push(callback)
  }

  /** Who wrote more than the client reads is told by `callback` when it has read that. */
  onDrain(callback: () => void): void {
    this.#whenDrained = callback
  }

  /** Sends the head. `bodyLength` in bytes; null where it is not known yet. */
  start(status: number, headers: HeaderList, { bodyLength }: { bodyLength: number | null }): void {
    const isEndless = bodyLength === null && !this.#readsChunks
    this.#isStarted = true
    this.#isChunked = bodyLength === null && this.#readsChunks && this.#hasBody
    this.#keepsAlive = this.#carrier.keepsAlive() && !isEndless
    const framing =
      bodyLength !== null
        ? `content-length: ${bodyLength}\r\n`
        : this.#readsChunks
          ? 'transfer-encoding: chunked\r\n'
          : ''
    this.#head = responseHead(status, headers, this.#carrier.connectionHeaders(this.#keepsAlive) + framing)
    this.#schedule()
  }

  /** False when the client reads more slowly than this is written: wait for `onDrain` before writing on. */
  write(bytes: Buffer): boolean {
    if (this.#isGone) return true
    if (this.#hasBody) this.#body.push(bytes)
    this.#schedule()
    const { writableLength, writableHighWaterMark } = this.#carrier.stream
    this.#isFull = writableLength + lengthOf(this.#body) > writableHighWaterMark
    return !this.#isFull
  }

  end(bytes?: Buffer): void {
    if (bytes !== undefined) this.write(bytes)
    this.#isEnding = true
    this.#schedule()
  }

  /** Cuts the connection, so that what was sent cannot be taken for a complete answer. */
  cut(): void {
    if (!this.#isOver) this.#carrier.destroy()
  }

  /** The connection was lost. */
  gone(): void {
    if (this.#isOver || this.#isGone) return
    this.#isGone = true
    for (const callback of this.#whenGone) callback()
  }

  /** The connection has sent what was written. */
  drained(): void {
    if (!this.#isFull) return
    this.#isFull = false
    this.#whenDrained()
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isOver) return
    this.#isScheduled = true
    atEndOfTurn(this.#flush)
  }

  readonly #flush = (): void => {
    this.#isScheduled = false
    if (this.#isGone) return
    const pieces = this.#isChunked ? this.#chunk() : [this.#head, ...this.#body]
    this.#head = ''
    this.#body = []
    const hasRoom = writePieces(this.#carrier.stream, pieces)
    if (this.#isEnding) {
      this.#isOver = true
      this.#carrier.ended(this.#keepsAlive)
    } else if (hasRoom) {
      this.drained()
    }
  }

  /** RFC 9112 §7.1. */
  #chunk(): (string | Buffer)[] {
    const end = this.#isEnding ? '0\r\n\r\n' : ''
    const length = lengthOf(this.#body)
    // A chunk without bytes would end the answer.
    if (length === 0) return [this.#head + end]
    return [`${this.#head}${length.toString(16)}\r\n`, ...this.#body, `\r\n${end}`]
  }
}
