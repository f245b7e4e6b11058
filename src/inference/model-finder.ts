import { EventData } from './event-data.ts'
import type { EventFrames } from './event-frames.ts'
import type { JsonText, Span } from './json-text.ts'
import { readModel } from './stream-event.ts'

/**
 * Finds the model's name in the frames of one stream, where it stands at the top of every event. Nearly always a
 * frame begins exactly as the one before, up to and with the name: to compare takes 0.1 µs, to read 0.7 µs.
 */
export class ModelFinder {
  /** The last frame that was read, from its start to the end of the model's name. */
  #opening = ''
  #nameLength = 0

  /** The name, a JSON string, in the frame that `frames` has gone to last, in `stream`; null when it has none. */
  find(frames: EventFrames, stream: JsonText): Span | null {
    const end = frames.start + this.#opening.length
    // In half the time of `startsWith`.
    const isSame = this.#opening !== '' && end <= frames.end && frames.text.slice(frames.start, end) === this.#opening
    return isSame ? { start: end - this.#nameLength, end } : this.#read(frames, stream)
  }

  #read(frames: EventFrames, stream: JsonText): Span | null {
    const { bytes, start } = frames
    const data = EventData.of(frames, stream)
    const model = data === null ? null : readModel(data)
    if (data === null || model === null) return null
    const name = data.inStream(model)
    this.#opening = name.end - start <= openingLengthMax ? bytes.toString('latin1', start, name.end) : ''
    this.#nameLength = name.end - name.start
    return name
  }
}

const openingLengthMax = 1024
