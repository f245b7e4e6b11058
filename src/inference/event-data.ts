import type { EventFrames } from './event-frames.ts'
import { type MemberNames, MemberWalk } from './json-scan.ts'
import { JsonText, type Span } from './json-text.ts'

/** Frames of known servers are flat; what stands deeper is passed on unread. */
const depthMax = 128

/** The data of one frame: read in place when they are one line, as nearly always, and joined when they are more. */
export class EventData {
  /** All of the data but for whitespace in front, as a span of themselves. */
  readonly whole: Span
  readonly #text: JsonText
  /** Where each line starts, in the data and in the stream; empty when the data are read in place. */
  readonly #lines: readonly JoinedLine[]

  private constructor(text: JsonText, { start, end }: Span, lines: readonly JoinedLine[]) {
    this.#text = text
    this.whole = { start: Math.min(text.skipWhitespace(start), end), end }
    this.#lines = lines
  }

  /** Of the frame that `frames` has gone to last; null when it has none. `stream` is what `frames` goes over. */
  static of(frames: EventFrames, stream: JsonText): EventData | null {
    const lines = frames.field('data')
    const [first] = lines
    if (first === undefined) return null
    return lines.length === 1 ? new EventData(stream, first, []) : EventData.#join(lines, stream.bytes)
  }

  static #join(lines: readonly Span[], stream: Buffer): EventData {
    const joined = Buffer.from(
      lines.map(({ start, end }) => stream.toString('latin1', start, end)).join('\n'),
      'latin1',
    )
    const starts: JoinedLine[] = []
    let inData = 0
    for (const { start, end } of lines) {
      starts.push({ inData, inStream: start })
      inData += end - start + 1
    }
    return new EventData(new JsonText(joined), { start: 0, end: joined.length }, starts)
  }

  /** The values of the names sought in the object at `object`, the first `most` of them; none if it is no object. */
  members<Name extends string>(
    names: MemberNames<Name>,
    { object = this.whole, most = Number.POSITIVE_INFINITY }: { object?: Span; most?: number } = {},
  ): Partial<Record<Name, Span>> {
    const members: Partial<Record<Name, Span>> = {}
    const walk = new MemberWalk(this.#text, { start: object.start, depthMax })
    let left = most
    while (left > 0 && walk.next() && walk.value.end <= object.end) {
      const found = names.find(this.#text.bytes, walk.name)
      if (found?.exact !== true || members[found.name] !== undefined) continue
      members[found.name] = walk.value
      left--
    }
    return members
  }

  /** Whether there is a value, and `byte` is its first. */
  startsWith(byte: number, value: Span | undefined): value is Span {
    return value !== undefined && this.#text.bytes[value.start] === byte
  }

  /** Whether all of the data are one JSON value. */
  isOneValue(): boolean {
    const end = this.#text.skipValue(this.whole.start, depthMax)
    return end > 0 && this.#text.skipWhitespace(end) >= this.whole.end
  }

  toString({ start, end }: Span = this.whole): string {
    return this.#text.bytes.toString('utf8', start, end)
  }

  /** Where in the stream a part of the data stands that lies within one line. */
  inStream({ start, end }: Span): Span {
    const line = this.#lines.findLast(({ inData }) => inData <= start)
    const shift = line === undefined ? 0 : line.inStream - line.inData
    return { start: start + shift, end: end + shift }
  }
}

interface JoinedLine {
  inData: number
  inStream: number
}
