import { type HeaderFields, HttpProtocolError } from './headers.ts'

/** In bytes, or how the body's end is marked. */
export type BodyLength = number | 'chunked' | 'until the connection ends'

/**
 * Where a message's body ends (RFC 9112 §6.3), and nothing more lenient than the RFC: a message whose end two servers
 * could place differently is an error. Null where the head says nothing. Throws `HttpProtocolError`.
 */
export function bodyLength({
  'transfer-encoding': encoding,
  'content-length': length,
}: HeaderFields): number | 'chunked' | null {
  if (encoding !== undefined) {
    if (length !== undefined) throw new HttpProtocolError('The head says in two ways where the body ends.')
    if (encoding.toLowerCase() !== 'chunked') throw new HttpProtocolError('The transfer encoding is not known.')
    return 'chunked'
  }
  if (length === undefined) return null
  if (!/^\d{1,15}$/.test(length)) throw new HttpProtocolError('The content length is no number.')
  return Number(length)
}

const trailerLengthMax = 64 * 1024
const extensionLengthMax = 4 * 1024

/**
 * Reads one body as it comes (RFC 9112 §6, §7). Its bytes are handed on in the buffers that they came in; those of
 * several HTTP chunks in one buffer are moved together first, so that a burst of small chunks costs as much as one.
 */
export class BodyReader {
  readonly #onData: (chunk: Buffer) => void
  #expected: Expected
  /** Of the body or the chunk that is being read. */
  #bytesLeft = 0
  #sizeDigits = 0
  #skippedLength = 0

  constructor(length: BodyLength, onData: (chunk: Buffer) => void) {
    this.#onData = onData
    if (typeof length === 'number') {
      this.#bytesLeft = length
      this.#expected = length === 0 ? 'end' : 'sized body'
    } else {
      this.#expected = length === 'chunked' ? 'chunk size' : 'endless body'
    }
  }

  get isComplete(): boolean {
    return this.#expected === 'end'
  }

  /** The connection has ended, which is how some bodies end. Answers whether the body is complete now. */
  finish(): boolean {
    if (this.#expected === 'endless body') this.#expected = 'end'
    return this.isComplete
  }

  /**
   * Takes the next bytes, from `start` on, which are the reader's from then on. Answers where they go on after the body.
   * Throws `HttpProtocolError`.
   */
  read(bytes: Buffer, start: number): number {
    if (this.#expected === 'sized body') return this.#readSizedBody(bytes, start)
    if (this.#expected !== 'endless body') return this.#readChunks(bytes, start)
    if (start < bytes.length) this.#onData(bytes.subarray(start))
    return bytes.length
  }

  #readSizedBody(bytes: Buffer, start: number): number {
    const end = Math.min(bytes.length, start + this.#bytesLeft)
    this.#bytesLeft -= end - start
    if (this.#bytesLeft === 0) this.#expected = 'end'
    if (end > start) this.#onData(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end))
    return end
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
    if (dataEnd > 0) this.#onData(bytes.subarray(dataStart, dataEnd))
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
        this.#expected = 'trailer'
        this.#skip(byte, { lengthMax: trailerLengthMax, next: 'last line feed' })
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
      if (this.#sizeDigits === sizeDigitsMax) throw new HttpProtocolError('A chunk is too large.')
      this.#bytesLeft = this.#bytesLeft * 16 + digit
      this.#sizeDigits += 1
      return
    }
    if (this.#sizeDigits === 0) throw new HttpProtocolError('A chunk has no size.')
    this.#sizeDigits = 0
    this.#skippedLength = 0
    if (byte === carriageReturn) this.#expected = 'line feed after size'
    else if (byte === semicolon) this.#expected = 'chunk extension'
    else throw new HttpProtocolError('The size of a chunk is no number.')
  }

  /** Over what is of no use, up to the carriage return. */
  #skip(byte: number, { lengthMax, next }: { lengthMax: number; next: Expected }): void {
    if (byte === carriageReturn) this.#expected = next
    else if (byte === lineFeed) throw new HttpProtocolError('A line has no carriage return.')
    this.#skippedLength += 1
    if (this.#skippedLength > lengthMax) throw new HttpProtocolError('There is too much around the body.')
  }

  #expect(byte: number, expected: number): void {
    if (byte !== expected) throw new HttpProtocolError('A line does not end where it must.')
  }
}

type Expected =
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

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lowerCase = byte | 0x20
  return lowerCase >= 0x61 && lowerCase <= 0x66 ? lowerCase - 0x57 : -1
}
