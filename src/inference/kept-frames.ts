import type { Dialect } from './dialects.ts'
import { EventFrames } from './event-frames.ts'

export interface KeptFramesOptions {
  dialect: Dialect
  /** Takes over text that has grown too long to keep; what comes after goes on from there. */
  takeText: (text: string) => void
  keptBytesMax?: number
  textLengthMax?: number
}

/**
 * What a stream has produced, in case that upstream does not count it. Most streams report their usage and nothing
 * kept here is ever read, so frames are only held on to. When they are many, the text is drawn out of them (1.5 µs
 * each), a small part of their size; when that is much too, it is handed on. So memory has a bound, however long the
 * stream is.
 */
export class KeptFrames {
  readonly #dialect: Dialect
  readonly #takeText: (text: string) => void
  readonly #keptBytesMax: number
  readonly #textLengthMax: number
  #kept: string[] = []
  #keptBytes = 0
  #text = ''

  constructor({ dialect, takeText, keptBytesMax = 32 * 1024, textLengthMax = 64 * 1024 }: KeptFramesOptions) {
    this.#dialect = dialect
    this.#takeText = takeText
    this.#keptBytesMax = keptBytesMax
    this.#textLengthMax = textLengthMax
  }

  /** Keeps whole frames, written with a character for each of their bytes. */
  keep(frames: string): void {
    if (this.#keptBytes + frames.length > this.#keptBytesMax) this.#drawKept()
    this.#kept.push(frames)
    this.#keptBytes += frames.length
    if (frames.length > this.#keptBytesMax) this.#drawKept()
  }

  /** What was produced since text was last handed on. */
  text(): string {
    this.#drawKept()
    return this.#text
  }

  #drawKept(): void {
    const bytes = Buffer.from(this.#kept.join(''), 'latin1')
    this.#kept = []
    this.#keptBytes = 0
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
