import type { HeaderList } from '../http1/headers.ts'
import type { InboundResponse } from '../inbound/response.ts'
import type { Refusal } from './refusal.ts'

/** How an API of the inference listener tells its callers that something went wrong. */
export type RenderError = (refusal: Refusal, requestId: string) => object

/**
 * The client's side of one exchange: answers are written through it, and it knows, at once, when the client
 * has gone. Writing to a client that has gone does nothing.
 */
export class ClientConnection {
  readonly requestId: string
  status = 0
  /** What is called, once that is known and allowed: the label of this request's metrics. */
  slug: string | null = null
  readonly #response: InboundResponse
  readonly #renderError: RenderError
  /** What every answer of this exchange carries. */
  readonly #headers: string[]

  constructor(response: InboundResponse, { requestId, renderError }: { requestId: string; renderError: RenderError }) {
    this.requestId = requestId
    this.#response = response
    this.#renderError = renderError
    this.#headers = ['x-request-id', requestId]
  }

  get isGone(): boolean {
    return this.#response.isGone
  }

  onGone(callback: () => void): void {
    this.#response.onGone(callback)
  }

  /** Headers that every answer of this exchange carries from now on. */
  addHeaders(headers: HeaderList): void {
    this.#headers.push(...headers)
  }

  /** Sends the head. `bodyLength` in bytes; null for a stream. */
  start(status: number, headers: HeaderList, { bodyLength }: { bodyLength: number | null }): void {
    this.status = status
    this.#response.start(status, [...headers, ...this.#headers], { bodyLength })
  }

  get started(): boolean {
    return this.#response.isStarted
  }

  /** False when the client reads more slowly than this is written: wait for `onDrain` before writing on. */
  write(bytes: Buffer): boolean {
    return this.#response.write(bytes)
  }

  onDrain(callback: () => void): void {
    this.#response.onDrain(callback)
  }

  end(bytes?: Buffer): void {
    this.#response.end(bytes)
  }

  /** Cuts the connection, so that what was sent cannot be taken for a complete answer. */
  cut(): void {
    this.#response.cut()
  }

  /** Answers with an error in the dialect of the API that was called. */
  refuse(refusal: Refusal): void {
    if (this.isGone) return
    this.sendJson(refusal.status, this.#renderError(refusal, this.requestId), refusal.headers)
  }

  sendJson(status: number, body: object, headers: HeaderList = []): void {
    const bytes = Buffer.from(JSON.stringify(body))
    this.start(status, [...headers, 'content-type', 'application/json'], { bodyLength: bytes.length })
    this.end(bytes)
  }
}
