import { HttpProtocolError } from './headers.ts'

/** Gathers the head of a message, up to the empty line that ends it. */
export class HeadReader {
  readonly #lengthMax: number
  /** The beginning of a head whose end is still to come. */
  #begun = ''

  constructor({ lengthMax }: { lengthMax: number }) {
    this.#lengthMax = lengthMax
  }

  /**
   * Reads on in `bytes` from `start`. Answers with the head's lines, and where the bytes go on after it; with null
   * where its end is still to come. Throws `HeadTooLongError`, and `HttpProtocolError` where lines end in anything
   * but CRLF.
   */
  read(bytes: Buffer, start: number): { lines: string[]; end: number } | null {
    const known = this.#begun.length
    // Most of a long body is not looked at.
    const text = this.#begun + bytes.toString('latin1', start, start + this.#lengthMax + endMark.length)
    const end = text.indexOf(endMark, Math.max(0, known - 3))
    if ((end === -1 ? text.length : end) > this.#lengthMax) throw new HeadTooLongError()
    if (end === -1) {
      if (/[^\r]\n/.test(text.slice(Math.max(0, known - 1))))
        throw new HttpProtocolError('A line of the head has no carriage return.')
      this.#begun = text
      return null
    }
    this.#begun = ''
    return { lines: text.slice(0, end).split('\r\n'), end: start + end + endMark.length - known }
  }

  get hasBegun(): boolean {
    return this.#begun !== ''
  }
}

const endMark = '\r\n\r\n'

export class HeadTooLongError extends HttpProtocolError {
  constructor() {
    super('The head is too long.')
    this.name = 'HeadTooLongError'
  }
}
