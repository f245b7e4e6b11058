import type { ServerResponse } from 'node:http'
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
  readonly #outgoing: ServerResponse
  readonly #renderError: RenderError
  readonly #whenGone: (() => void)[] = []
  #extraHeaders: Record<string, string> = {}
  #gone = false

  constructor(outgoing: ServerResponse, { requestId, renderError }: { requestId: string; renderError: RenderError }) {
    this.requestId = requestId
    this.#outgoing = outgoing
    this.#renderError = renderError
    outgoing.once('close', () => {
      if (outgoing.writableFinished) return
      this.#gone = true
      for (const callback of this.#whenGone) callback()
    })
  }

  get isGone(): boolean {
    return this.#gone
  }

  onGone(callback: () => void): void {
    if (this.#gone) callback()
    else this.#whenGone.push(callback)
  }

  /** Headers that every answer of this exchange carries from now on. */
  addHeaders(headers: Record<string, string>): void {
    this.#extraHeaders = { ...this.#extraHeaders, ...headers }
  }

  /** Sends the head at once: a stream's client learns that it was accepted before the first token. */
  start(status: number, headers: Record<string, string>): void {
    this.status = status
    this.#outgoing.writeHead(status, { ...headers, ...this.#extraHeaders, 'x-request-id': this.requestId })
  }

  get started(): boolean {
    return this.#outgoing.headersSent
  }

  /** False when the client reads more slowly than this is written: wait for `onDrain` before writing on. */
  write(bytes: Buffer): boolean {
    return this.#gone || this.#outgoing.write(bytes)
  }

  onDrain(callback: () => void): void {
    this.#outgoing.on('drain', callback)
  }

  end(bytes?: Buffer): void {
    if (!this.#gone) this.#outgoing.end(bytes)
  }

  /** Cuts the connection, so that what was sent cannot be taken for a complete answer. */
  cut(): void {
    this.#outgoing.destroy()
  }

  /** Answers with an error in the dialect of the API that was called. */
  refuse(refusal: Refusal): void {
    if (this.#gone) return
    this.sendJson(refusal.status, this.#renderError(refusal, this.requestId), refusal.headers)
  }

  sendJson(status: number, body: object, headers: Record<string, string> = {}): void {
    const bytes = Buffer.from(JSON.stringify(body))
    this.start(status, { ...headers, 'content-type': 'application/json', 'content-length': String(bytes.length) })
    this.end(bytes)
  }
}
