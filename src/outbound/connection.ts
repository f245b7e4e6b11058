import type { Socket } from 'node:net'
import { atEndOfTurn } from '../end-of-turn.ts'
import { type HeaderFields, type HeaderList, headerLines } from '../http1/headers.ts'
import { lengthOf, writePieces } from '../http1/write-pieces.ts'
import type { Carrier, OutboundCall } from './call.ts'
import { ResponseReader, type ResponseTaker } from './response-reader.ts'

export interface OutboundRequest {
  origin: string
  path: string
  method: 'GET' | 'POST'
  headers: HeaderList
  /** In pieces, one after the other; none: a request without a body. */
  body: readonly Buffer[]
}

export interface ConnectionOptions {
  firstByteTimeoutMs: number
  /** Longest pause within a response. */
  idleTimeoutMs: number
  /** The response was read to its end, and the connection may carry another call. */
  onFree: (connection: Connection) => void
  onClosed: (connection: Connection) => void
}

/** The other side took too long. */
export class OutboundTimeoutError extends Error {
  constructor() {
    super('The response, or its next part, did not come in time.')
    this.name = 'OutboundTimeoutError'
  }
}

/** How long the rest of a response may take that nobody waits for. */
const unwantedMsMax = 5_000

/** A keep-alive connection to a server, which carries one call at a time. */
export class Connection implements Carrier, ResponseTaker {
  readonly #socket: Socket
  readonly #options: ConnectionOptions
  #call: OutboundCall | null = null
  #reader: ResponseReader | null = null
  /** How long the other side may be silent, from when it was last seen not to be. */
  #allowedMs = 0
  #silentSinceMs = 0
  /** Since `checkDeadline` last looked. */
  #hasSpoken = true
  #isPaused = false
  #isUnwanted = false
  /** When `checkDeadline` first saw that. */
  #unwantedSinceMs: number | null = null
  /** The request is written at the end of the turn. */
  #isUnsent = false
  #failure: Error | null = null

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket
    this.#options = options
    socket.on('data', (bytes: Buffer) => this.#read(bytes))
    socket.on('end', () => this.#reader?.finish())
    socket.on('error', (error) => {
      this.#failure ??= error
    })
    socket.on('close', () => {
      options.onClosed(this)
      this.#fail(this.#failure ?? new Error('The connection ended before the response did.'))
    })
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed && this.#socket.writable
  }

  /** How long the server said that it keeps the connection; null where it did not. */
  get keepAliveMs(): number | null {
    return this.#reader?.keepAliveMs ?? null
  }

  /** Carries `call`, when it carries no other one. Throws where the request cannot be written down. */
  send(request: OutboundRequest, call: OutboundCall): void {
    const head = requestHead(request)
    this.#call = call
    this.#reader = new ResponseReader(this)
    call.carriedBy(this)
    this.#allowedMs = this.#options.firstByteTimeoutMs
    this.#hasSpoken = true
    this.#isUnwanted = false
    this.#unwantedSinceMs = null
    this.#isUnsent = true
    atEndOfTurn(() => {
      this.#isUnsent = false
      if (this.isOpen) writePieces(this.#socket, [head, ...request.body])
    })
  }

  pause(): void {
    this.#isPaused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    // The time in which nobody read is not the other side's.
    this.#hasSpoken = true
    this.#socket.resume()
  }

  endSoon(): void {
    this.#isUnwanted = true
  }

  /**
   * Gives up a call whose server says nothing, or too much. To be called now and then: it takes two looks to see how
   * long something lasts.
   */
  checkDeadline(nowMs: number): void {
    const isTooLate = this.#isSilentTooLong(nowMs) || this.#isUnwantedTooLong(nowMs)
    if (isTooLate && this.#call !== null) this.#fail(new OutboundTimeoutError())
  }

  destroy(): void {
    this.#socket.destroy()
  }

  onHead(status: number, headers: HeaderFields): void {
    this.#call?.head(status, headers)
  }

  onData(chunk: Buffer): void {
    this.#call?.data(chunk)
  }

  onEnd(): void {
    const call = this.#call
    this.#call = null
    this.resume()
    // A server may answer before it has read the whole request; its rest must not be taken for the next one.
    const isSent = !this.#isUnsent && this.#socket.writableLength === 0
    const isFree = this.#reader?.keepsAlive === true && isSent && this.isOpen
    if (isFree) this.#options.onFree(this)
    else this.destroy()
    call?.ended()
  }

  #read(bytes: Buffer): void {
    // What nobody asked for is no response.
    if (this.#call === null) return void this.destroy()
    this.#allowedMs = this.#options.idleTimeoutMs
    this.#hasSpoken = true
    try {
      this.#reader?.push(bytes)
    } catch (cause) {
      this.#fail(cause instanceof Error ? cause : new Error(String(cause)))
    }
  }

  #isSilentTooLong(nowMs: number): boolean {
    if (this.#hasSpoken || this.#isPaused) this.#silentSinceMs = nowMs
    this.#hasSpoken = false
    return nowMs - this.#silentSinceMs >= this.#allowedMs
  }

  #isUnwantedTooLong(nowMs: number): boolean {
    if (!this.#isUnwanted) return false
    this.#unwantedSinceMs ??= nowMs
    return nowMs - this.#unwantedSinceMs >= unwantedMsMax
  }

  #fail(cause: Error): void {
    const call = this.#call
    this.#call = null
    this.destroy()
    call?.failed(cause)
  }
}

/** Throws where a value could be read as more than one header. */
function requestHead({ origin, method, path, headers, body }: OutboundRequest): string {
  const host = origin.slice(origin.indexOf('//') + 2)
  const length = body.length > 0 ? `content-length: ${lengthOf(body)}\r\n` : ''
  return `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n${length}${headerLines(headers)}\r\n`
}
