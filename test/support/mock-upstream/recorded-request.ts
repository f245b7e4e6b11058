import type { IncomingHttpHeaders } from 'node:http'
import { AnswerProgress } from './answer-progress.ts'
import { asRecord, asText } from './read-json.ts'

/** One request as it came in, and how far its answer has got. */
export class RecordedRequest {
  /** Counts from 0 in the order of arrival. */
  readonly index: number
  readonly method: string
  readonly path: string
  /** Names and values by turns, as they were spelled. */
  readonly rawHeaders: readonly string[]
  /** By lower-case name. */
  readonly headers: IncomingHttpHeaders
  readonly bytes: Buffer
  /** The parsed body; empty when the body is no JSON object. */
  readonly body: Record<string, unknown>
  /** For the upstream's own use: tests read the properties below. */
  readonly progress: AnswerProgress

  constructor(received: {
    index: number
    method: string
    path: string
    rawHeaders: readonly string[]
    headers: IncomingHttpHeaders
    bytes: Buffer
    monotonic: () => number
  }) {
    this.index = received.index
    this.method = received.method
    this.path = received.path
    this.rawHeaders = received.rawHeaders
    this.headers = received.headers
    this.bytes = received.bytes
    this.body = parseObject(received.bytes)
    this.progress = new AnswerProgress(received.monotonic)
  }

  /** The model asked for, or the empty string. */
  get model(): string {
    return asText(this.body['model'])
  }

  /** The whole answer was handed over. */
  get completed(): boolean {
    return this.progress.state === 'completed'
  }

  /** The client went away before the answer was complete. */
  get aborted(): boolean {
    return this.progress.state === 'aborted'
  }

  /** Chunks sent before the client went away, or null when it did not. */
  get abortedAtChunk(): number | null {
    return this.aborted ? this.progress.chunks : null
  }

  /** Completion tokens produced until now, sent or not: what a model would have spent. */
  get producedTokens(): number {
    return this.progress.tokens
  }

  /** Bytes of the answer's body that the connection has taken. */
  get bytesWritten(): number {
    return this.progress.bytes
  }

  /** The clock's monotonic time at which the answer was complete, cut or abandoned; null until then. */
  get endedAtMs(): number | null {
    return this.progress.endedAtMs
  }

  /** Resolves when the answer is complete, cut by its trouble, or abandoned by the client. */
  ended(): Promise<void> {
    return this.progress.ended()
  }

  /**
   * With `pace: 'manual'`: lets the opening of a stream out (its headers and first frames) and so many more chunks;
   * `release(0)` is the opening alone. Resolves when they are written, or the answer has ended. Of an answer in one
   * piece the tokens of so many chunks are produced, and nothing is sent yet.
   */
  release(chunks = 1): Promise<void> {
    return this.progress.allow(chunks)
  }

  /** With `pace: 'manual'`: lets out everything that is left. Resolves when the answer has ended. */
  finish(): Promise<void> {
    return this.progress.allow(Number.POSITIVE_INFINITY)
  }
}

function parseObject(bytes: Buffer): Record<string, unknown> {
  try {
    return asRecord(JSON.parse(bytes.toString('utf8')))
  } catch {
    return {}
  }
}
