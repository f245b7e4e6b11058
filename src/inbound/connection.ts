import type { Socket } from 'node:net'
import type { Clock } from '../clock.ts'
import { HeadTooLongError } from '../http1/head-reader.ts'
import { type HeaderList, HttpProtocolError } from '../http1/headers.ts'
import { responseHead } from '../http1/response-head.ts'
import { readImmediately } from './immediate-reads.ts'
import { InboundRequest, type RequestSource } from './request.ts'
import { type RequestHead, RequestReader, type RequestTaker } from './request-reader.ts'
import { InboundResponse, type ResponseCarrier } from './response.ts'

export interface ConnectionOptions {
  onRequest: (request: InboundRequest, response: InboundResponse) => void
  /** What a client is told that cannot be understood, or is too slow. */
  answerTo: (problem: ProtocolProblem) => ProtocolAnswer
  clock: Clock
  /** Longest time for a head, from the connection's first moment or the request's first byte. */
  headTimeoutMs: number
  /** Longest time for a whole request, from its first byte. */
  requestTimeoutMs: number
  /** How long a connection may be without a request. */
  keepAliveMs: number
  /** Longest time in which a client may read nothing of an answer that waits for it. */
  stallTimeoutMs: number
  /** Whether connections are kept for further requests: not while the server is closing. */
  keepsConnections: () => boolean
  /** The time as the `date` header has it. */
  date: () => string
}

export type ProtocolProblem = 'malformed' | 'head-too-large' | 'too-slow'

export interface ProtocolAnswer {
  status: number
  headers: HeaderList
  body: string
}

interface Exchange {
  head: RequestHead
  request: InboundRequest
  response: InboundResponse
}

/** What comes while a response is under way is a next request, or most of one: more is not read before its turn. */
const aheadBytesMax = 64 * 1024
/** How long a client may leave its side open after we have closed ours. */
const lingerMs = 5_000

/** A keep-alive connection of a client, which carries one exchange at a time. */
export class InboundConnection implements RequestTaker, RequestSource, ResponseCarrier {
  readonly stream: Socket
  readonly #options: ConnectionOptions
  #reader = new RequestReader(this)
  #exchange: Exchange | null = null
  /** Came before its turn: pipelined requests. */
  #ahead: Buffer[] = []
  #aheadBytes = 0
  #wasAskedForBody = false
  #hasServed = false
  /** Our side is closed; what the client still sends is of no interest. */
  #isLingering = false
  /** When the state began that `checkDeadline` judges, or the client was last seen to read an answer that is over. */
  #sinceMs: number
  /** Of an answer that is over, when `checkDeadline` last looked. */
  #unsentBytes = 0

  constructor(socket: Socket, options: ConnectionOptions) {
    this.stream = socket
    this.#options = options
    this.#sinceMs = options.clock.monotonic()
    readImmediately(socket, (bytes) => this.#received(bytes))
    socket.on('drain', () => this.#sent())
    socket.on('end', () => this.#clientEnded())
    // `close` follows.
    socket.on('error', () => {})
    socket.on('close', () => this.#exchangeLost())
  }

  /** Nothing of a request has come, and nothing of a response is under way or still to be sent. */
  get isIdle(): boolean {
    return this.#exchange === null && !this.#reader.hasBegun && !this.#isLingering && this.stream.writableLength === 0
  }

  /** Sees to it that nobody holds the connection for ever. To be called now and then. */
  checkDeadline(nowMs: number): void {
    const unsentBytes = this.#isOver ? this.stream.writableLength : 0
    if (unsentBytes !== this.#unsentBytes) this.#sinceMs = nowMs
    this.#unsentBytes = unsentBytes
    if (nowMs - this.#sinceMs < this.#allowedMs()) return
    if (this.#isOver) this.destroy()
    else this.#refuse('too-slow')
  }

  destroy(): void {
    this.stream.destroy()
  }

  onHead(head: RequestHead): void {
    this.#wasAskedForBody = head.headers['expect']?.toLowerCase() !== '100-continue'
    const exchange = { head, request: new InboundRequest(head, this), response: new InboundResponse(this, head) }
    this.#exchange = exchange
    this.#options.onRequest(exchange.request, exchange.response)
  }

  onData(chunk: Buffer): void {
    this.#exchange?.request.take(chunk)
  }

  onEnd(): void {
    this.#exchange?.request.complete()
  }

  /** RFC 9110 §10.1.1. */
  askForBody(): void {
    if (this.#wasAskedForBody || this.#isLingering) return
    this.#wasAskedForBody = true
    this.stream.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1')
  }

  pause(): void {
    this.stream.pause()
  }

  resume(): void {
    if (this.stream.isPaused()) this.stream.resume()
  }

  keepsAlive(): boolean {
    // A client that was never asked for its body may send it or not: what comes next cannot be told.
    const isBodyComing = this.#wasAskedForBody || this.#reader.isComplete
    return this.#exchange?.head.keepsAlive === true && isBodyComing && this.#options.keepsConnections()
  }

  connectionHeaders(keepsAlive: boolean): string {
    const { date, keepAliveMs } = this.#options
    const connection = keepsAlive
      ? `connection: keep-alive\r\nkeep-alive: timeout=${Math.floor(keepAliveMs / 1_000)}\r\n`
      : 'connection: close\r\n'
    return `date: ${date()}\r\n${connection}`
  }

  ended(keepsAlive: boolean): void {
    this.#exchange?.request.forget()
    if (keepsAlive) this.#advance()
    else this.#linger()
  }

  #received(bytes: Buffer): void {
    if (this.#isLingering) return
    const hadBegun = this.#reader.hasBegun
    try {
      const taken = this.#reader.isComplete ? 0 : this.#reader.push(bytes)
      if (!hadBegun && this.#reader.hasBegun) this.#stateBegins()
      if (taken < bytes.length) this.#keepAhead(bytes.subarray(taken))
      this.#advance()
    } catch (cause) {
      if (!(cause instanceof HttpProtocolError)) throw cause
      this.#refuse(cause instanceof HeadTooLongError ? 'head-too-large' : 'malformed')
    }
  }

  #keepAhead(bytes: Buffer): void {
    this.#ahead.push(bytes)
    this.#aheadBytes += bytes.length
    if (this.#aheadBytes > aheadBytesMax) this.pause()
  }

  /** The client has read what was written. */
  #sent(): void {
    this.#exchange?.response.drained()
    this.#advance()
  }

  /** Goes on to the next request once this one has been read and answered, and the client reads its answers. */
  #advance(): void {
    if (!this.#isOver || this.#exchange === null || this.#isLingering || this.stream.writableNeedDrain) return
    const ahead = this.#ahead
    this.#reader = new RequestReader(this)
    this.#exchange = null
    this.#ahead = []
    this.#aheadBytes = 0
    this.#hasServed = true
    this.#stateBegins()
    this.resume()
    for (const bytes of ahead) this.#received(bytes)
  }

  /** No request is under way: what was asked has been answered, whether or not the client has read that. */
  get #isOver(): boolean {
    if (this.#isLingering || !this.#reader.hasBegun) return true
    return this.#reader.isComplete && this.#exchange?.response.isOver === true
  }

  #stateBegins(): void {
    this.#sinceMs = this.#options.clock.monotonic()
    this.#unsentBytes = 0
  }

  #allowedMs(): number {
    const { headTimeoutMs, requestTimeoutMs, keepAliveMs, stallTimeoutMs } = this.#options
    if (this.#unsentBytes > 0) return stallTimeoutMs
    if (this.#isLingering) return lingerMs
    if (!this.#reader.hasBegun) return this.#hasServed ? keepAliveMs : headTimeoutMs
    if (!this.#reader.hasHead) return headTimeoutMs
    return this.#reader.isComplete ? Number.POSITIVE_INFINITY : requestTimeoutMs
  }

  /** Whatever was under way ends here: where the next request would begin is not known. */
  #refuse(problem: ProtocolProblem): void {
    const response = this.#exchange?.response
    if (response?.isStarted !== true) this.#tell(problem)
    else if (!response.isOver) this.destroy()
    this.#linger()
    this.#exchangeLost()
  }

  #tell(problem: ProtocolProblem): void {
    const { status, headers, body } = this.#options.answerTo(problem)
    const length = `content-length: ${Buffer.byteLength(body)}\r\n`
    this.stream.write(responseHead(status, headers, this.connectionHeaders(false) + length) + body)
  }

  /** Closes our side only: to close both while the client still sends would take the answer from it. */
  #linger(): void {
    this.#isLingering = true
    this.#stateBegins()
    this.stream.end()
    this.resume()
  }

  /** A client that closes its side has gone, as far as can be seen: only writing to it would tell whether it still reads. */
  #clientEnded(): void {
    if (!this.#isLingering) this.destroy()
  }

  #exchangeLost(): void {
    this.#exchange?.response.gone()
    this.#exchange?.request.cutOff()
  }
}
