import type { Asked } from './asked.ts'
import type { Reply } from './reply.ts'

/** The wire format of one API: how its requests are read and its answers written. */
export interface Api {
  /** Why the real server would refuse this body with 400, or null. */
  fault(body: Record<string, unknown>): string | null
  read(body: Record<string, unknown>): Asked
  /** The answer in one piece. */
  answer(reply: Reply): object
  /** The answer as a stream; null for an API that has none. */
  stream: ((reply: Reply) => StreamFrames) | null
  errorShape: 'openai' | 'anthropic'
}

export interface StreamFrames {
  /** Sent before the first token. */
  opening: Frame[]
  /** The frames of one chunk, counted from 0. */
  chunk(index: number): Frame[]
  /** What follows the last token; the last of them says that this was all. */
  closing(): Frame[]
  /** How the server says, within the stream, that it failed. */
  failure(message: string): Frame[]
}

/** One server-sent event; an object is sent as JSON. */
export interface Frame {
  event?: string
  data: string | object
}
