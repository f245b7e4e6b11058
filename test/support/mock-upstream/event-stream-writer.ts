import type { Writable } from 'node:stream'
import { constants, createGzip, type Gzip } from 'node:zlib'
import type { Frame } from './api.ts'
import { answerHeaders, compressed, type Exchange } from './exchange.ts'
import type { Framing } from './script.ts'

/** Writes server-sent events, framed as the script says; each call resolves when the connection has taken its bytes. */
export class EventStreamWriter {
  readonly #exchange: Exchange
  readonly #framing: Framing
  readonly #gzip: Gzip | null
  readonly #body: Writable
  #pending: Buffer[] = []
  #writes = 0

  /** Sends the head of the answer at once. */
  constructor(exchange: Exchange) {
    const { response, script } = exchange
    this.#exchange = exchange
    this.#framing = script.framing ?? {}
    this.#gzip = compressed(exchange) ? createGzip() : null
    this.#body = this.#gzip ?? response
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      ...(this.#gzip === null ? {} : { 'content-encoding': 'gzip' }),
      ...answerHeaders(exchange),
    })
    response.flushHeaders()
    this.#gzip?.pipe(response)
  }

  async write(frames: readonly Frame[]): Promise<void> {
    for (const frame of frames) {
      this.#pending.push(encodeFrame(frame, this.#framing))
      if (this.#pending.length >= (this.#framing.framesPerWrite ?? 1)) await this.flush()
    }
  }

  /** Writes frames that wait for others to share their write. */
  async flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pending)
    this.#pending = []
    await this.#writeCut(bytes)
  }

  /** Writes what is pending and the first half of these frames. */
  async writeHalf(frames: readonly Frame[]): Promise<void> {
    await this.flush()
    const bytes = Buffer.concat(frames.map((frame) => encodeFrame(frame, this.#framing)))
    await this.#writeCut(bytes.subarray(0, bytes.length / 2))
  }

  async end(): Promise<void> {
    await this.flush()
    this.#body.end()
  }

  async #writeCut(bytes: Buffer): Promise<void> {
    const sizes = this.#framing.writeBytes ?? []
    for (let start = 0; start < bytes.length; ) {
      const size = sizes[this.#writes++ % sizes.length] ?? bytes.length
      const piece = bytes.subarray(start, start + size)
      await this.#writePiece(piece)
      start += piece.length
    }
  }

  /** Also resolves when the answer has ended: a connection that is gone takes nothing more. */
  #writePiece(bytes: Buffer): Promise<void> {
    const { progress } = this.#exchange.request
    if (progress.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const finish = () => {
        progress.signal.removeEventListener('abort', finish)
        resolve()
      }
      const taken = () => {
        if (!progress.signal.aborted) progress.bytesTaken(bytes.length)
        finish()
      }
      progress.signal.addEventListener('abort', finish, { once: true })
      if (this.#gzip === null) {
        this.#body.write(bytes, taken)
      } else {
        this.#gzip.write(bytes)
        this.#gzip.flush(constants.Z_SYNC_FLUSH, taken)
      }
    })
  }
}

function encodeFrame({ event, data }: Frame, { lineEnd = '\n', afterColon = ' ', comment }: Framing): Buffer {
  const text = typeof data === 'string' ? data : JSON.stringify(data)
  const lines = [
    ...(comment === undefined ? [] : [`: ${comment}`]),
    ...(event === undefined ? [] : [`event:${afterColon}${event}`]),
    `data:${afterColon}${text}`,
    '',
    '',
  ]
  return Buffer.from(lines.join(lineEnd))
}
