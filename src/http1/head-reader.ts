import { HttpProtocolError, lineEnd } from './headers.ts'

/** Gathers the head of a message, up to the empty line that ends it. */
export class HeadReader {
  readonly #lengthMax: number
  /** The beginning of a head whose end is still to come. */
  #begun = ''

  constructor({ lengthMax }: { lengthMax: number }) {
    this.#lengthMax = lengthMax
  }

  /**
   * Reads on in `bytes` from `start`. Answers with the head's lines, each with its CRLF, and where the bytes go on after
   * them and the empty line; with null where that is still to come. Throws `HeadTooLongError`, and `HttpProtocolError`
   * where lines end in anything else or have other control characters than tabs.
   */
  read(bytes: Buffer, start: number): { lines: string; end: number } | null {
    const known = this.#begun.length
    // Most heads are short, and most of a long body is not looked at.
    const endMin = Math.max(0, known - 3)
    let text = this.#begun + bytes.toString('latin1', start, start + usualLength)
    if (bytes.length > start + usualLength && !text.includes(endMark, endMin)) {
      text = this.#begun + bytes.toString('latin1', start, start + this.#lengthMax + endMark.length)
    }
    const end = text.indexOf(endMark, endMin)
    if ((end === -1 ? text.length : end) > this.#lengthMax) throw new HeadTooLongError()
    const lines = end === -1 ? text : text.slice(0, end + lineEnd.length)
    if (notInLines.test(lines.slice(Math.max(0, known - 1)))) {
      throw new HttpProtocolError('The head has a control character, or a line that does not end in CRLF.')
    }
    this.#begun = end === -1 ? text : ''
    return end === -1 ? null : { lines, end: start + end + endMark.length - known }
  }

  get hasBegun(): boolean {
    return this.#begun !== ''
  }
}

const endMark = lineEnd + lineEnd
const usualLength = 1_024
const notInLines = /[^\t\r\n\x20-\x7e\x80-\xff]|\r[^\n]|[^\r]\n/

export class HeadTooLongError extends HttpProtocolError {
  constructor() {
    super('The head is too long.')
    this.name = 'HeadTooLongError'
  }
}
