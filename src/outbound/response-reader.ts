import { type BodyLength, BodyReader, bodyLength } from '../http1/body-reader.ts'
import { HeadReader } from '../http1/head-reader.ts'
import { type HeaderFields, HttpProtocolError, hasWord, readHeaders } from '../http1/headers.ts'

/** Takes a response as it is read. `onEnd` comes last, at most once. */
export interface ResponseTaker {
  onHead(status: number, headers: HeaderFields): void
  onData(chunk: Buffer): void
  onEnd(): void
}

const headLengthMax = 64 * 1024
const interimResponsesMax = 16

/**
 * Reads one response as it comes (RFC 9112), and nothing more lenient than the RFC.
 *
 * A general parser (undici's llhttp) takes 5 µs for a small response and 1 µs for every chunk of a stream; this takes
 * 2 and 0.2. It must find the same: `test/properties/response-reader.test.ts`.
 */
export class ResponseReader {
  readonly #taker: ResponseTaker
  readonly #head = new HeadReader({ lengthMax: headLengthMax })
  /** Null until the head has been read. */
  #body: BodyReader | null = null
  #interimResponses = 0
  #keepsAlive = false
  #keepAliveMs: number | null = null

  constructor(taker: ResponseTaker) {
    this.#taker = taker
  }

  /** Takes the next bytes of the connection, which are the reader's from then on. Throws `HttpProtocolError`. */
  push(bytes: Buffer): void {
    if (this.isComplete) throw new HttpProtocolError('More comes after the end of the response.')
    let at = 0
    while (this.#body === null) {
      const head = this.#head.read(bytes, at)
      if (head === null) return
      at = head.end
      this.#body = this.#takeHead(head.lines)
    }
    if (!this.#body.isComplete) at = this.#body.read(bytes, at)
    // What follows was not asked for: whatever it is, the connection cannot be trusted with another request.
    if (at < bytes.length) this.#keepsAlive = false
    if (this.isComplete) this.#taker.onEnd()
  }

  /** The connection has ended, which is how some bodies end. False when the response has not come to its end. */
  finish(): boolean {
    const wasComplete = this.isComplete
    const isComplete = this.#body?.finish() === true
    if (isComplete && !wasComplete) this.#taker.onEnd()
    return isComplete
  }

  get isComplete(): boolean {
    return this.#body?.isComplete === true
  }

  /** Whether the connection may carry another request after this response. */
  get keepsAlive(): boolean {
    return this.#keepsAlive
  }

  /** How long the server says that it keeps an idle connection; null where it says nothing. */
  get keepAliveMs(): number | null {
    return this.#keepAliveMs
  }

  /** Answers with null where the response itself is still to come. */
  #takeHead(lines: string): BodyReader | null {
    const match = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: .*)?\r\n/.exec(lines)
    if (match === null) throw new HttpProtocolError('The response does not begin with a status line of HTTP/1.')
    const status = Number(match[2])
    const headers = readHeaders(lines, match[0].length)
    if (status < 200) {
      this.#interimResponses += 1
      const isTooMuch = status === 101 || this.#interimResponses > interimResponsesMax
      if (isTooMuch) throw new HttpProtocolError('The server switches protocols, or keeps announcing a response.')
      return null
    }
    const length = responseLength(status, headers)
    const isEndless = length === 'until the connection ends'
    this.#keepsAlive = match[1] === '1' && !hasWord(headers['connection'], 'close') && !isEndless
    const timeout = /timeout=(\d{1,6})/i.exec(headers['keep-alive'] ?? '')
    this.#keepAliveMs = timeout === null ? null : Number(timeout[1]) * 1_000
    this.#taker.onHead(status, headers)
    return new BodyReader(length, (chunk) => this.#taker.onData(chunk))
  }
}

function responseLength(status: number, headers: HeaderFields): BodyLength {
  const said = bodyLength(headers)
  return status === 204 || status === 304 ? 0 : (said ?? 'until the connection ends')
}
