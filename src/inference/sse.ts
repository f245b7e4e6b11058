import type { Dialect } from './dialects.ts'
import { EventData } from './event-data.ts'
import { EventFrames, isSplitLineEnd, lastFrameEnd } from './event-frames.ts'
import type { Edit } from './json-scan.ts'
import { JsonText, type Span } from './json-text.ts'
import { KeptFrames } from './kept-frames.ts'
import { ModelFinder } from './model-finder.ts'
import { lastingCopy, type ResponseTap, type Tapped, tapped } from './response-tap.ts'
import { isWhole, readEvent, type StreamEvent } from './stream-event.ts'

/*
 * A stream of server-sent events on its way from upstream to the client (contract §11).
 *
 * A frame leaves as soon as its blank line is there, however it was cut into chunks, and it leaves as it came but
 * for the model's name: bytes take the place of bytes, nothing is parsed and written anew. Most chunks leave as
 * the very buffer that came.
 *
 * What matters to billing is in few frames: the usage, an error, the end. One regular expression over a whole
 * chunk tells which of its frames may be such ones (`Dialect.telling`); only their events are read. In the others at
 * most the model's name is looked up.
 *
 * What must not leave before the billing event is on disk comes apart, as `final`: the frame that ends the stream
 * and all that follows. A stream that has no such frame ends with its body, which is the caller's to hold back.
 *
 * Bounds: a frame of more than `frameBytesMax` is an error with a name, since nothing of it can leave before its
 * end, and is kept once; what is kept to estimate the output from has a bound of its own (`KeptFrames`).
 */

export interface EventStreamTapOptions {
  dialect: Dialect
  /** The name by which the client knows the model; null leaves upstream's. */
  model: string | null
  /** Leaves out the chunk with the usage and no choice: it is not for a client that did not ask for it. */
  dropUsageChunk: boolean
  /** Takes over produced text that has grown too long to keep; `producedText` goes on from there. */
  takeText: (text: string) => void
  frameBytesMax?: number
}

export class EventStreamTap implements ResponseTap {
  readonly #dialect: Dialect
  /** The model's name as JSON; `text` has a character for each of its bytes. */
  readonly #model: { json: Buffer; text: string } | null
  readonly #dropUsageChunk: boolean
  readonly #frameBytesMax: number
  readonly #modelFinder = new ModelFinder()
  readonly #produced: KeptFrames
  /** The start of a frame whose end is still to come: the first `#heldBytes` of it. */
  #held: Buffer = noBytes
  #heldBytes = 0
  #lastByte = lineFeed
  #sawEnd = false
  #choiceFinished = false
  #endedCleanly = false
  #firstUsage: string | null = null
  #lastUsage: string | null = null
  #isUsageOutrun = true
  #error: string | null = null

  constructor({
    dialect,
    model,
    dropUsageChunk,
    takeText,
    frameBytesMax = frameBytesMaxDefault,
  }: EventStreamTapOptions) {
    this.#dialect = dialect
    this.#model = model === null ? null : nameAsJson(model)
    this.#dropUsageChunk = dropUsageChunk
    this.#frameBytesMax = frameBytesMax
    this.#produced = new KeptFrames({ dialect, takeText })
  }

  /** Throws `EventFrameTooLarge`. */
  push(chunk: Buffer): Tapped {
    const end = this.#wholeFramesEnd(chunk)
    if (end === 0) {
      this.#hold(chunk)
      return nothing
    }
    const frames = this.#joinHeld(end === chunk.length ? chunk : chunk.subarray(0, end))
    if (end < chunk.length) this.#hold(chunk.subarray(end))
    return this.#pass(frames)
  }

  /** A last frame that lacks nothing but its blank line leaves; a part of one is of no use to a client. */
  end(): Tapped {
    const rest = this.#joinHeld(noBytes)
    const event = firstEvent(rest)
    this.#endedCleanly = event === null || isWhole(event)
    return event !== null && this.#endedCleanly ? this.#pass(rest) : nothing
  }

  /** Some servers send no last frame: there, a finished choice and an end between two frames are the mark. */
  get complete(): boolean {
    return this.#sawEnd || (this.#choiceFinished && this.#endedCleanly)
  }

  /** Counts may come in two parts, the prompt's first; what comes later holds. */
  usage(): Readonly<Record<string, unknown>> | null {
    if (this.#firstUsage === null || this.#lastUsage === null) return null
    return { ...JSON.parse(this.#firstUsage), ...JSON.parse(this.#lastUsage) }
  }

  get isUsageOutrun(): boolean {
    return this.#isUsageOutrun
  }

  error(): string | null {
    return this.#error
  }

  producedText(): string {
    return this.#produced.text()
  }

  #wholeFramesEnd(chunk: Buffer): number {
    const before = this.#lastByte
    this.#lastByte = chunk.at(-1) ?? before
    if (this.#heldBytes === 0 && isSplitLineEnd(before, chunk[0])) return Math.max(1, lastFrameEnd(chunk, before))
    return lastFrameEnd(chunk, before)
  }

  /** Grows by doubling: each byte of a long frame is moved a few times, however many pieces it comes in. */
  #hold(bytes: Buffer): void {
    const length = this.#heldBytes + bytes.length
    if (length > this.#frameBytesMax) throw new EventFrameTooLarge(this.#frameBytesMax)
    if (this.#heldBytes === 0) {
      this.#held = lastingCopy(bytes)
    } else {
      if (length > this.#held.length) this.#held = lastingCopy(this.#held, Math.min(2 * length, this.#frameBytesMax))
      this.#held.set(bytes, this.#heldBytes)
    }
    this.#heldBytes = length
  }

  #joinHeld(rest: Buffer): Buffer {
    if (this.#heldBytes === 0) return rest
    const joined = Buffer.concat([this.#held.subarray(0, this.#heldBytes), rest])
    this.#held = noBytes
    this.#heldBytes = 0
    return joined
  }

  #pass(bytes: Buffer): Tapped {
    const finalBefore = this.#sawEnd
    const { edits, endsAt } = this.#readFrames(bytes)
    return tapped(bytes, edits, finalBefore ? 0 : endsAt)
  }

  /** `endsAt` is where the frame starts that ends the stream. */
  #readFrames(bytes: Buffer): { edits: Edit[]; endsAt: number } {
    const edits: Edit[] = []
    let endsAt = bytes.length
    const frames = new EventFrames(bytes)
    this.#produced.keep(frames.text)
    const telling = new TellingPlaces(this.#dialect.telling, frames.text)
    if (telling.none && this.#isUsageOutrun && !this.#namesModelInEachFrame) return { edits, endsAt }
    const text = new JsonText(bytes)
    while (frames.next()) {
      if (!telling.isWithin(frames)) {
        this.#isUsageOutrun ||= frames.field('data').length > 0
        if (this.#namesModelInEachFrame) this.#rename(this.#modelFinder.find(frames, text), { frames, edits })
        continue
      }
      const data = EventData.of(frames, text)
      if (data === null) continue
      const event = readEvent(data, { frameType: frames.type(), dialect: this.#dialect })
      this.#note(event, data)
      if (event.ends) endsAt = Math.min(endsAt, frames.start)
      if (event.isUsageChunk && this.#dropUsageChunk) {
        edits.push({ start: frames.start, end: frames.end, replacement: noBytes })
      } else if (event.model !== null) {
        this.#rename(data.inStream(event.model), { frames, edits })
      }
    }
    return { edits, endsAt }
  }

  get #namesModelInEachFrame(): boolean {
    return this.#model !== null && this.#dialect.envelope === null
  }

  /** Changes nothing where upstream calls the model by the same name: then the bytes can leave as they came. */
  #rename(upstreamName: Span | null, { frames, edits }: { frames: EventFrames; edits: Edit[] }): void {
    if (upstreamName === null || this.#model === null) return
    const { start, end } = upstreamName
    const { json, text } = this.#model
    if (frames.text.slice(start, end) !== text) edits.push({ start, end, replacement: json })
  }

  #note({ usage, error, finishesChoice, ends }: StreamEvent, data: EventData): void {
    this.#isUsageOutrun = usage === null && (this.#isUsageOutrun || !(ends || error !== null))
    if (usage !== null) {
      this.#lastUsage = data.toString(usage)
      this.#firstUsage ??= this.#lastUsage
    }
    if (error !== null) this.#error ??= data.toString(error)
    this.#choiceFinished ||= finishesChoice
    this.#sawEnd ||= ends
  }
}

/** Where in a chunk something stands that needs a closer look. */
class TellingPlaces {
  readonly #pattern: RegExp
  readonly #text: string
  #next: number

  constructor(pattern: RegExp, text: string) {
    this.#pattern = pattern
    this.#text = text
    this.#next = this.#after(0)
  }

  get none(): boolean {
    return this.#next === this.#text.length
  }

  /** To be asked for one frame after the other. */
  isWithin({ start, end }: Span): boolean {
    if (this.#next < start) this.#next = this.#after(start)
    return this.#next < end
  }

  #after(start: number): number {
    this.#pattern.lastIndex = start
    return this.#pattern.exec(this.#text)?.index ?? this.#text.length
  }
}

/** Upstream has sent more than `frameBytesMax` without ending a frame. */
export class EventFrameTooLarge extends Error {
  constructor(frameBytesMax: number) {
    super(`Upstream sent an event of more than ${frameBytesMax} bytes.`)
    this.name = 'EventFrameTooLarge'
  }
}

/** Images come in one frame, in base64: several megabytes each. */
const frameBytesMaxDefault = 16 * 1024 * 1024

const lineFeed = 0x0a
const noBytes = Buffer.alloc(0)
const nothing: Tapped = { send: null, final: null }

function nameAsJson(model: string): { json: Buffer; text: string } {
  const json = lastingCopy(Buffer.from(JSON.stringify(model)))
  return { json, text: json.toString('latin1') }
}

function firstEvent(frames: Buffer): EventData | null {
  const walk = new EventFrames(frames)
  return walk.next() ? EventData.of(walk, new JsonText(frames)) : null
}
