/** Takes a response as it is read. `onEnd` comes last, at most once. */
export interface ResponseTaker {
  onHead(status: number, headers: ResponseHeaders): void
  onData(chunk: Buffer): void
  onEnd(): void
}

/** Names in lower case; what came more than once is joined by commas. */
export type ResponseHeaders = Readonly<Record<string, string | undefined>>

/** What came is no HTTP/1.1 response, or could be read in more than one way. */
export class HttpProtocolError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'HttpProtocolError'
  }
}

const headLengthMax = 64 * 1024
const trailerLengthMax = 64 * 1024
const extensionLengthMax = 4 * 1024
const interimResponsesMax = 16

/**
 * Reads one response as it comes (RFC 9112), and nothing more lenient than the RFC: a response whose end two servers
 * could place differently is an error. Body bytes are handed on in the buffers that they came in; those of several
 * HTTP chunks in one buffer are moved together first, so that a burst of small chunks costs as much as one.
 *
 * A general parser (undici's llhttp) takes 5 µs for a small response and 1 µs for every chunk of a stream; this takes
 * 2 and 0.2. It must find the same: `test/properties/response-reader.test.ts`.
 */
export class ResponseReader {
  readonly #taker: ResponseTaker
  #expected: Expected = 'head'
  /** The beginning of a head whose end is still to come. */
  #head = ''
  #interimResponses = 0
  /** Of the body or the chunk that is being read. */
  #bytesLeft = 0
  #sizeDigits = 0
  #skippedLength = 0
  #keepsAlive = false
  #keepAliveMs: number | null = null

  constructor(taker: ResponseTaker) {
    this.#taker = taker
  }

  /** Takes the next bytes of the connection, which are the reader's from then on. Throws `HttpProtocolError`. */
  push(bytes: Buffer): void {
    if (this.isComplete) throw new HttpProtocolError('More comes after the end of the response.')
    let at = 0
    while (this.#expected === 'head') {
      const headEnd = this.#readHead(bytes, at)
      if (headEnd === null) return
      at = headEnd
    }
    if (this.#expected === 'sized body') at = this.#readSizedBody(bytes, at)
    else if (this.#expected === 'endless body') this.#readEndlessBody(bytes, at)
    else if (!this.isComplete) at = this.#readChunks(bytes, at)
    // What follows was not asked for: whatever it is, the connection cannot be trusted with another request.
    if (at < bytes.length) this.#keepsAlive = false
    if (this.isComplete) this.#taker.onEnd()
  }

  /** The connection has ended, which is how some bodies end. False when the response has not come to its end. */
  finish(): boolean {
    if (this.#expected !== 'endless body') return this.isComplete
    this.#expected = 'end'
    this.#taker.onEnd()
    return true
  }

  get isComplete(): boolean {
    return this.#expected === 'end'
  }

  /** Whether the connection may carry another request after this response. */
  get keepsAlive(): boolean {
    return this.#keepsAlive
  }

  /** How long the server says that it keeps an idle connection; null where it says nothing. */
  get keepAliveMs(): number | null {
    return this.#keepAliveMs
  }

  /** Answers where the bytes go on after the head; null where its end is still to come. */
  #readHead(bytes: Buffer, start: number): number | null {
    const known = this.#head.length
    const text = this.#head + bytes.toString('latin1', start)
    const end = text.indexOf('\r\n\r\n', Math.max(0, known - 3))
    if (end > headLengthMax || (end === -1 && text.length > headLengthMax)) {
      throw new HttpProtocolError('The head of the response is too long.')
    }
    if (end === -1) {
      this.#head = text
      return null
    }
    this.#head = ''
    this.#takeHead(text.slice(0, end))
    return start + end + 4 - known
  }

  #takeHead(text: string): void {
    const [statusLine = '', ...lines] = text.split('\r\n')
    const match = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(statusLine)
    if (match === null) throw new HttpProtocolError('The response does not begin with a status line of HTTP/1.')
    const status = Number(match[2])
    const headers = readHeaders(lines)
    if (status < 200) {
      this.#interimResponses += 1
      const isTooMuch = status === 101 || this.#interimResponses > interimResponsesMax
      if (isTooMuch) throw new HttpProtocolError('The server switches protocols, or keeps announcing a response.')
      return
    }
    this.#expectBody(status, headers)
    const closes = /(?:^|,)\s*close\s*(?:,|$)/i.test(headers['connection'] ?? '')
    this.#keepsAlive = match[1] === '1' && !closes && this.#expected !== 'endless body'
    const timeout = /timeout=(\d{1,6})/i.exec(headers['keep-alive'] ?? '')
    this.#keepAliveMs = timeout === null ? null : Number(timeout[1]) * 1_000
    this.#taker.onHead(status, headers)
  }

  /** RFC 9112 §6.3. */
  #expectBody(status: number, headers: ResponseHeaders): void {
    const { 'transfer-encoding': encoding, 'content-length': length } = headers
    if (encoding !== undefined) {
      if (length !== undefined) throw new HttpProtocolError('The response says in two ways where it ends.')
      if (encoding.toLowerCase() !== 'chunked') throw new HttpProtocolError('The transfer encoding is not known.')
      this.#expected = 'chunk size'
    } else if (length !== undefined) {
      if (!/^\d{1,15}$/.test(length)) throw new HttpProtocolError('The content length is no number.')
      this.#bytesLeft = Number(length)
      this.#expected = this.#bytesLeft === 0 ? 'end' : 'sized body'
    } else {
      this.#expected = 'endless body'
    }
    if (status === 204 || status === 304) this.#expected = 'end'
  }

  #readSizedBody(bytes: Buffer, start: number): number {
    const end = Math.min(bytes.length, start + this.#bytesLeft)
    this.#bytesLeft -= end - start
    if (this.#bytesLeft === 0) this.#expected = 'end'
    if (end > start) this.#taker.onData(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end))
    return end
  }

  #readEndlessBody(bytes: Buffer, start: number): void {
    if (start < bytes.length) this.#taker.onData(start === 0 ? bytes : bytes.subarray(start))
  }

  #readChunks(bytes: Buffer, start: number): number {
    let at = start
    let dataStart = 0
    let dataEnd = 0
    while (at < bytes.length && this.#expected !== 'end') {
      if (this.#expected !== 'chunk data') {
        this.#readFraming(bytes[at] ?? 0)
        at += 1
        continue
      }
      const end = Math.min(bytes.length, at + this.#bytesLeft)
      if (dataEnd === 0) dataStart = at
      else bytes.copyWithin(dataEnd, at, end)
      dataEnd = dataEnd === 0 ? end : dataEnd + end - at
      this.#bytesLeft -= end - at
      if (this.#bytesLeft === 0) this.#expected = 'carriage return after chunk'
      at = end
    }
    if (dataEnd > 0) this.#taker.onData(bytes.subarray(dataStart, dataEnd))
    return at
  }

  /** RFC 9112 §7.1, a byte at a time: the few bytes between the data of two chunks. */
  #readFraming(byte: number): void {
    switch (this.#expected) {
      case 'chunk size':
        this.#readSize(byte)
        break
      case 'chunk extension':
        this.#skip(byte, { lengthMax: extensionLengthMax, next: 'line feed after size' })
        break
      case 'line feed after size':
        this.#expect(byte, lineFeed)
        this.#expected = this.#bytesLeft === 0 ? 'trailer or end' : 'chunk data'
        this.#skippedLength = 0
        break
      case 'carriage return after chunk':
        this.#expect(byte, carriageReturn)
        this.#expected = 'line feed after chunk'
        break
      case 'line feed after chunk':
        this.#expect(byte, lineFeed)
        this.#expected = 'chunk size'
        break
      case 'trailer or end':
        this.#expected = byte === carriageReturn ? 'last line feed' : 'trailer'
        break
      case 'trailer':
        this.#skip(byte, { lengthMax: trailerLengthMax, next: 'line feed after trailer' })
        break
      case 'line feed after trailer':
        this.#expect(byte, lineFeed)
        this.#expected = 'trailer or end'
        break
      case 'last line feed':
        this.#expect(byte, lineFeed)
        this.#expected = 'end'
        break
    }
  }

  #readSize(byte: number): void {
    const digit = hexDigit(byte)
    if (digit >= 0) {
      if (this.#sizeDigits === sizeDigitsMax) throw new HttpProtocolError('A chunk of the response is too large.')
      this.#bytesLeft = this.#bytesLeft * 16 + digit
      this.#sizeDigits += 1
      return
    }
    if (this.#sizeDigits === 0) throw new HttpProtocolError('A chunk of the response has no size.')
    this.#sizeDigits = 0
    this.#skippedLength = 0
    if (byte === carriageReturn) this.#expected = 'line feed after size'
    else if (byte === semicolon) this.#expected = 'chunk extension'
    else throw new HttpProtocolError('The size of a chunk of the response is no number.')
  }

  /** Over what is of no use, up to the carriage return. */
  #skip(byte: number, { lengthMax, next }: { lengthMax: number; next: Expected }): void {
    if (byte === carriageReturn) this.#expected = next
    else if (byte === lineFeed) throw new HttpProtocolError('A line of the response has no carriage return.')
    this.#skippedLength += 1
    if (this.#skippedLength > lengthMax) throw new HttpProtocolError('The response has too much around its body.')
  }

  #expect(byte: number, expected: number): void {
    if (byte !== expected) throw new HttpProtocolError('A line of the response does not end where it must.')
  }
}

type Expected =
  | 'head'
  | 'sized body'
  | 'endless body'
  | 'chunk size'
  | 'chunk extension'
  | 'line feed after size'
  | 'chunk data'
  | 'carriage return after chunk'
  | 'line feed after chunk'
  | 'trailer or end'
  | 'trailer'
  | 'line feed after trailer'
  | 'last line feed'
  | 'end'

const lineFeed = 0x0a
const carriageReturn = 0x0d
const semicolon = 0x3b
/** 16^10 bytes are more than any body. */
const sizeDigitsMax = 10

/** RFC 9112 §5: no space before the colon, and no line that goes on in the next one. */
const headerLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*(.*?)[\t ]*$/
const controlCharacter = /[^\t\x20-\x7e\x80-\xff]/

function readHeaders(lines: readonly string[]): ResponseHeaders {
  const headers: Record<string, string> = Object.create(null)
  for (const line of lines) {
    const match = headerLine.exec(line)
    if (match === null || controlCharacter.test(line))
      throw new HttpProtocolError('A header of the response is not valid.')
    const [, spelled = '', value = ''] = match
    const name = spelled.toLowerCase()
    const earlier = headers[name]
    headers[name] = earlier === undefined ? value : `${earlier}, ${value}`
  }
  return headers
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lowerCase = byte | 0x20
  return lowerCase >= 0x61 && lowerCase <= 0x66 ? lowerCase - 0x57 : -1
}
