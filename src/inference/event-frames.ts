import type { Span } from './json-text.ts'

/**
 * Walks a server-sent event stream (HTML standard §9.2) from frame to frame: lines up to and with a blank one,
 * ended by LF, CR LF or CR. The bytes begin where a frame begins; the last frame may lack its blank line.
 */
export class EventFrames {
  /** The frame last gone to, its blank line included. */
  start = 0
  end: number
  readonly bytes: Buffer
  /** The bytes, a character each: to search in it takes a third of the time. */
  readonly text: string
  readonly #hasCarriageReturns: boolean

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.text = bytes.toString('latin1')
    this.#hasCarriageReturns = this.text.includes('\r')
    this.end = startsWithByteOrderMark(bytes) ? 3 : 0
  }

  /** Goes to the next frame; false when there is none. */
  next(): boolean {
    this.start = this.end
    if (this.start >= this.bytes.length) return false
    if (!this.#hasCarriageReturns && this.bytes[this.start] !== lineFeed) {
      const blankLine = this.text.indexOf('\n\n', this.start)
      this.end = blankLine === -1 ? this.bytes.length : blankLine + 2
      return true
    }
    for (let at = this.start; ; ) {
      const lineEnd = this.#lineEnd(at)
      this.end = afterLineEnd(this.bytes, lineEnd)
      if (lineEnd === at || this.end >= this.bytes.length) return true
      at = this.end
    }
  }

  /** The content of each of the frame's lines with this field: of `data: x`, the `x`. */
  field(name: string): Span[] {
    const spans: Span[] = []
    for (let at = this.start; at < this.end; ) {
      const end = this.#lineEnd(at)
      const start = contentStart(this.bytes, { start: at, end }, name)
      if (start >= 0) spans.push({ start, end })
      at = afterLineEnd(this.bytes, end)
    }
    return spans
  }

  /** The content of its last `event` line, or null. */
  type(): string | null {
    const last = this.field('event').at(-1)
    return last === undefined ? null : this.bytes.toString('utf8', last.start, last.end)
  }

  #lineEnd(start: number): number {
    const bytes = this.bytes
    if (bytes[start] === lineFeed) return start
    if (!this.#hasCarriageReturns) {
      const end = this.text.indexOf('\n', start)
      return end === -1 ? bytes.length : end
    }
    let at = start
    while (at < bytes.length && bytes[at] !== lineFeed && bytes[at] !== carriageReturn) at++
    return at
  }
}

const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20
const colon = 0x3a

/** A stream may; it belongs to no line. */
function startsWithByteOrderMark(bytes: Buffer): boolean {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
}

/** Where the content of a line starts, after one space if there is one; -1 when it has none or its field is another. */
function contentStart(bytes: Buffer, { start, end }: Span, name: string): number {
  const nameEnd = start + name.length
  if (nameEnd > end) return -1
  for (let index = 0; index < name.length; index++) if (bytes[start + index] !== name.charCodeAt(index)) return -1
  if (bytes[nameEnd] !== colon) return -1
  return nameEnd + 1 < end && bytes[nameEnd + 1] === space ? nameEnd + 2 : nameEnd + 1
}

function afterLineEnd(bytes: Buffer, end: number): number {
  if (end >= bytes.length) return bytes.length
  return bytes[end] === carriageReturn && bytes[end + 1] === lineFeed ? end + 2 : end + 1
}

/**
 * The index after the last blank line in `chunk`, which is the end of its last whole frame, or 0. `before` is the
 * byte that came before the chunk. A blank line is two line ends in a row, and CR LF is one.
 */
export function lastFrameEnd(chunk: Buffer, before: number): number {
  for (let at = chunk.length - 1; at >= 0; at--) {
    const byte = chunk[at]
    if (byte !== lineFeed && byte !== carriageReturn) continue
    const previous = at === 0 ? before : chunk[at - 1]
    const endsBlankLine = previous === lineFeed || (previous === carriageReturn && byte === carriageReturn)
    if (endsBlankLine) return afterLineEnd(chunk, at)
  }
  return 0
}

/** Whether `before` and `byte` are the two halves of one line end, CR LF. */
export function isSplitLineEnd(before: number, byte: number | undefined): boolean {
  return before === carriageReturn && byte === lineFeed
}
