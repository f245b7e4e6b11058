import { EventData } from './event-data.ts'
import type { EventFrames } from './event-frames.ts'
import { JsonText, type Span } from './json-text.ts'
import { lastingCopy } from './response-tap.ts'
import { readModel } from './stream-event.ts'

/**
 * Finds the model's name in the frames of one stream, where it stands at the top of every event. Nearly always a
 * frame begins exactly as the one before, up to and with the name: to compare takes 0.1 µs, to read 0.7 µs.
 */
export class ModelFinder {
  /** The last frame that was read, from its start to the end of the model's name. */
  #opening: Buffer | null = null
  #nameLength = 0

  /** The name, a JSON string, in the frame that `frames` has gone to last; null when it has none. */
  find(frames: EventFrames): Span | null {
    if (this.#opening === null || !startsWith(frames, this.#opening)) return this.#read(frames)
    const end = frames.start + this.#opening.length
    return { start: end - this.#nameLength, end }
  }

  #read(frames: EventFrames): Span | null {
    const { bytes, start } = frames
    const data = EventData.of(frames, new JsonText(bytes))
    const model = data === null ? null : readModel(data)
    if (data === null || model === null) return null
    const name = data.inStream(model)
    this.#opening = name.end - start <= openingBytesMax ? lastingCopy(bytes.subarray(start, name.end)) : null
    this.#nameLength = name.end - name.start
    return name
  }
}

const openingBytesMax = 1024

function startsWith({ bytes, start, end }: EventFrames, opening: Buffer): boolean {
  const openingEnd = start + opening.length
  return openingEnd <= end && bytes.compare(opening, 0, opening.length, start, openingEnd) === 0
}
