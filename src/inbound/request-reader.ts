import { BodyReader, bodyLength } from '../http1/body-reader.ts'
import { HeadReader } from '../http1/head-reader.ts'
import { type HeaderFields, HttpProtocolError, hasWord, readHeaders } from '../http1/headers.ts'

/** What a request says before its body. */
export interface RequestHead {
  method: string
  /** The path and the query, as they were sent; in place of an absolute URL, those of it. */
  target: string
  /** Whom the client asked for, perhaps with a port: the host of an absolute URL before the header's. '' for neither. */
  host: string
  headers: HeaderFields
  /** In bytes; 0 where there is no body. */
  bodyLength: number | 'chunked'
  /** HTTP/1.1, and not 1.0: the client reads chunks. */
  readsChunks: boolean
  /** Whether the client wants to send another request on the connection. */
  keepsAlive: boolean
}

/** Takes a request as it is read. */
export interface RequestTaker {
  onHead(head: RequestHead): void
  onData(chunk: Buffer): void
  onEnd(): void
}

const headLengthMax = 16 * 1024
/** Some clients send one empty line after a body. */
const emptyLinesLengthMax = 16

/**
 * Reads one request as it comes (RFC 9112), and nothing more lenient than the RFC: a request that a proxy before us
 * could have read in another way is an error, so that nobody can hide a second one in it.
 */
export class RequestReader {
  readonly #taker: RequestTaker
  readonly #head = new HeadReader({ lengthMax: headLengthMax })
  /** Null until the head has been read. */
  #body: BodyReader | null = null
  #emptyLinesLength = 0

  constructor(taker: RequestTaker) {
    this.#taker = taker
  }

  /**
   * Takes the next bytes of the connection, which are the reader's from then on. Answers how many of them are this
   * request's; what follows is the next one's. Throws `HttpProtocolError`.
   */
  push(bytes: Buffer): number {
    let at = 0
    if (this.#body === null) {
      if (!this.hasBegun) at = this.#skipEmptyLines(bytes)
      const head = this.#head.read(bytes, at)
      if (head === null) return bytes.length
      at = head.end
      this.#body = this.#takeHead(head.lines)
    }
    if (!this.#body.isComplete) at = this.#body.read(bytes, at)
    if (this.#body.isComplete) this.#taker.onEnd()
    return at
  }

  /** Whether a byte of the request has come. Empty lines before it are none. */
  get hasBegun(): boolean {
    return this.hasHead || this.#head.hasBegun
  }

  get hasHead(): boolean {
    return this.#body !== null
  }

  get isComplete(): boolean {
    return this.#body?.isComplete === true
  }

  /** RFC 9112 §2.2. They are no request's beginning, or they would put off its deadline for ever. */
  #skipEmptyLines(bytes: Buffer): number {
    let at = 0
    while (bytes[at] === carriageReturn || bytes[at] === lineFeed) at++
    this.#emptyLinesLength += at
    if (this.#emptyLinesLength > emptyLinesLengthMax) throw new HttpProtocolError('Too many lines are empty.')
    return at
  }

  #takeHead(lines: string): BodyReader {
    const match = requestLinePattern.exec(lines)
    if (match === null) throw new HttpProtocolError('The request does not begin with a request line of HTTP/1.')
    const [requestLine, method = '', target = '', minorVersion] = match
    const headers = readHeaders(lines, requestLine.length)
    const readsChunks = minorVersion === '1'
    const length = bodyLength(headers) ?? 0
    if (length === 'chunked' && !readsChunks) throw new HttpProtocolError('HTTP/1.0 knows no transfer encoding.')
    // RFC 9112 §3.2. Two of them are joined by a comma, which is in no host's name.
    const { host, connection } = headers
    if (host === undefined ? readsChunks : host.includes(',')) {
      throw new HttpProtocolError('The request must have one Host header.')
    }
    const keepsAlive = readsChunks ? !hasWord(connection, 'close') : hasWord(connection, 'keep-alive')
    const url = target.startsWith('/') ? null : urlParts(target)
    this.#taker.onHead({
      method,
      target: url?.target ?? target,
      host: url?.host ?? host ?? '',
      headers,
      bodyLength: length,
      readsChunks,
      keepsAlive,
    })
    return new BodyReader(length, (chunk) => this.#taker.onData(chunk))
  }
}

const requestLinePattern = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])\r\n/

/** No user, no empty host, nothing in it that two could read differently. */
const httpUrlPattern = /^https?:\/\/((?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?)(\/.*|\?.*|)$/is

/**
 * RFC 9112 §3.2.2: a target may be a URL, as for a proxy, and its host is then the one that counts, whatever the header
 * says. Null for what is no URL of HTTP.
 */
function urlParts(target: string): Pick<RequestHead, 'target' | 'host'> | null {
  if (!/^https?:/i.test(target)) return null
  const match = httpUrlPattern.exec(target)
  if (match === null) throw new HttpProtocolError('The target is a URL that is not valid.')
  const [, host = '', rest = ''] = match
  return { target: rest.startsWith('/') ? rest : `/${rest}`, host }
}

const carriageReturn = 0x0d
const lineFeed = 0x0a
