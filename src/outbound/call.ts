import type { HeaderFields } from '../http1/headers.ts'

/** Hears of everything that becomes of a request. Exactly one of `onEnd` and `onError` is called, last. */
export interface OutboundHandler {
  onHead(status: number, headers: HeaderFields): void
  onData(chunk: Buffer): void
  onEnd(): void
  onError(cause: Error): void
}

/** What a call asks of the connection that carries it. */
export interface Carrier {
  pause(): void
  resume(): void
  endSoon(): void
  destroy(): void
}

/**
 * A request under way, from before it has a connection until its end. From its end on it has no hold on the
 * connection, which may carry another one by then.
 */
export class OutboundCall {
  readonly #handler: OutboundHandler
  #carrier: Carrier | null = null
  #isOver = false

  constructor(handler: OutboundHandler) {
    this.#handler = handler
  }

  pause(): void {
    this.#carrier?.pause()
  }

  resume(): void {
    this.#carrier?.resume()
  }

  /** Nobody waits for the rest of the response: it may come for 5 s more, so that its connection can serve again. */
  endSoon(): void {
    this.#carrier?.endSoon()
  }

  /** Ends it at once, with its connection; the handler hears `reason`. Changes nothing once it is over. */
  abort(reason: Error): void {
    const carrier = this.#carrier
    this.failed(reason)
    carrier?.destroy()
  }

  get isOver(): boolean {
    return this.#isOver
  }

  carriedBy(carrier: Carrier): void {
    this.#carrier = carrier
  }

  head(status: number, headers: HeaderFields): void {
    if (!this.#isOver) this.#handler.onHead(status, headers)
  }

  data(chunk: Buffer): void {
    if (!this.#isOver) this.#handler.onData(chunk)
  }

  ended(): void {
    if (this.#leave()) this.#handler.onEnd()
  }

  failed(cause: Error): void {
    if (this.#leave()) this.#handler.onError(cause)
  }

  #leave(): boolean {
    const wasOver = this.#isOver
    this.#isOver = true
    this.#carrier = null
    return !wasOver
  }
}
