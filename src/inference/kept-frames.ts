import type { Dialect } from './dialects.ts'
import { EventFrames } from './event-frames.ts'
import { lastingCopy } from './response-tap.ts'

export interface KeptFramesOptions {
  dialect: Dialect
  /** Takes over text that has grown too long to keep; what comes after goes on from there. */
  takeText: (text: string) => void
  keptBytesMax?: number
  textLengthMax?: number
}

/**
 * What a stream has produced, in case that upstream does not count it. Most streams report their usage and nothing
 * kept here is ever read, so frames are only copied (20 ns each). When the room is used up, the text is drawn out
 * of them (1.5 µs each), a small part of their size; when that is much too, it is handed on. So memory has a bound,
 * however long the stream is.
 */
export class KeptFrames {
  readonly #dialect: Dialect
  readonly #takeText: (text: string) => void
  readonly #keptBytesMax: number
  readonly #textLengthMax: number
  #room: Buffer = Buffer.alloc(0)
  #keptBytes = 0
  #text = ''

  constructor({ dialect, takeText, keptBytesMax = 32 * 1024, textLengthMax = 64 * 1024 }: KeptFramesOptions) {
    this.#dialect = dialect
    this.#takeText = takeText
    this.#keptBytesMax = keptBytesMax
    this.#textLengthMax = textLengthMax
  }

  /** Keeps whole frames. */
  keep(frames: Buffer): void {
    if (this.#keptBytes + frames.length > this.#keptBytesMax) this.#drawKept()
    if (frames.length > this.#keptBytesMax) {
      this.#draw(frames)
      return
    }
    this.#makeRoom(this.#keptBytes + frames.length)
    this.#room.set(frames, this.#keptBytes)
    this.#keptBytes += frames.length
  }

  /** What was produced since text was last handed on. */
  text(): string {
    this.#drawKept()
    return this.#text
  }

  /** Grows as it fills: a stream that has sent little holds little. */
  #makeRoom(bytes: number): void {
    if (bytes <= this.#room.length) return
    const size = Math.max(1024, 4 * this.#room.length, bytes)
    this.#room = lastingCopy(this.#room.subarray(0, this.#keptBytes), Math.min(size, this.#keptBytesMax))
  }

  #drawKept(): void {
    this.#draw(this.#room.subarray(0, this.#keptBytes))
    this.#keptBytes = 0
  }

  #draw(bytes: Buffer): void {
    const texts: string[] = []
    for (const frames = new EventFrames(bytes); frames.next(); ) {
      const lines = frames.field('data').map(({ start, end }) => bytes.toString('utf8', start, end))
      texts.push(this.#dialect.textOf(parsed(lines.join('\n'))))
    }
    this.#text += texts.join('')
    if (this.#text.length < this.#textLengthMax) return
    this.#takeText(this.#text)
    this.#text = ''
  }
}

/** Null for what is no JSON, such as `[DONE]`. */
function parsed(data: string): unknown {
  if (!data.startsWith('{')) return null
  try {
    return JSON.parse(data)
  } catch {
    return null
  }
}
