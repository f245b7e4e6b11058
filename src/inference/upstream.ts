import type { Target } from '../directory/target.ts'
import type { HeaderFields } from '../http1/headers.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { OutboundCall, OutboundHandler } from '../outbound/call.ts'
import type { OutboundRequest } from '../outbound/connection.ts'
import { type Outbound, type OutboundFailure, outboundFailure } from '../outbound.ts'

/** What becomes of a request at its targets. */
export type UpstreamAnswer =
  | { kind: 'answered'; response: UpstreamResponse; target: Target }
  | { kind: 'failed'; failure: OutboundFailure | 'server-error' }
  | { kind: 'abandoned' }

export interface UpstreamCall {
  targets: readonly Target[]
  requestFor(target: Target): OutboundRequest
  /** Calls back when the client has gone; the attempt under way is then aborted at once. */
  onClientGone(callback: () => void): void
}

/**
 * Calls the targets in turn until one answers. The next is tried when one is unreachable, gives no first byte
 * in time, or answers 429 or 5xx; the last one's answer, or failure, stands (contract §6, §11). Once the first
 * byte of an answer is here there is no other attempt.
 */
export async function callUpstream(
  { targets, requestFor, onClientGone }: UpstreamCall,
  { outbound, metrics, log }: { outbound: Outbound; metrics: Metrics; log: Log },
): Promise<UpstreamAnswer> {
  let attempt: UpstreamResponse | null = null
  let clientGone = false
  onClientGone(() => {
    clientGone = true
    attempt?.abort()
  })
  let answer: UpstreamAnswer = { kind: 'failed', failure: 'unreachable' }
  for (const [index, target] of targets.entries()) {
    if (clientGone) break
    attempt = new UpstreamResponse(outbound, requestFor(target))
    const failure = await attempt.firstByte
    if (clientGone) break
    if (failure !== null) {
      metrics.upstreamFailed(failure.kind)
      log.warn({ origin: target.origin, failure: failure.kind, cause: failure.cause.message }, 'target failed')
      answer = { kind: 'failed', failure: failure.kind }
      continue
    }
    const isLast = index === targets.length - 1
    if (attempt.status >= 500 || (attempt.status === 429 && !isLast)) {
      metrics.upstreamFailed(String(attempt.status))
      log.warn({ origin: target.origin, status: attempt.status }, 'target failed')
      attempt.discard()
      answer = { kind: 'failed', failure: 'server-error' }
      continue
    }
    return { kind: 'answered', response: attempt, target }
  }
  return clientGone ? { kind: 'abandoned' } : answer
}

/** Where a response's bytes go, as they come. Exactly one of `end` and `error` is called, last. */
export interface ResponseSink {
  data(chunk: Buffer): void
  end(): void
  error(cause: Error): void
}

const discardedBytesMax = 64 * 1024

/** One answer of an upstream: its head, and its bytes for whoever calls `readInto`. */
export class UpstreamResponse implements OutboundHandler {
  status = 0
  headers: HeaderFields = {}
  /** Resolves with null at the body's first byte or its end, with the failure when neither comes. */
  readonly firstByte: Promise<{ kind: OutboundFailure; cause: Error } | null>
  readonly #resolveFirstByte: (failure: { kind: OutboundFailure; cause: Error } | null) => void
  readonly #call: OutboundCall
  #sink: ResponseSink | null = null
  #early: Buffer | null = null
  #ended: 'no' | 'complete' | Error = 'no'

  constructor(outbound: Outbound, request: OutboundRequest) {
    const { promise, resolve } = Promise.withResolvers<{ kind: OutboundFailure; cause: Error } | null>()
    this.firstByte = promise
    this.#resolveFirstByte = resolve
    this.#call = outbound.dispatch(request, this)
  }

  /** Hands over what has come and what will come. To be called once. */
  readInto(sink: ResponseSink): void {
    this.#sink = sink
    const early = this.#early
    this.#early = null
    if (early !== null) this.#deliver(early)
    if (this.#ended === 'complete') sink.end()
    else if (this.#ended !== 'no') sink.error(this.#ended)
    else this.resume()
  }

  /** Reads on without keeping anything, so that the connection can serve again; what is long, or takes long, is cut off. */
  discard(): void {
    let bytes = 0
    this.readInto({
      data: (chunk) => {
        bytes += chunk.length
        if (bytes > discardedBytesMax) this.abort()
      },
      end: () => {},
      error: () => {},
    })
    this.#call.endSoon()
  }

  pause(): void {
    this.#call.pause()
  }

  resume(): void {
    this.#call.resume()
  }

  /** Ends the exchange with the upstream; the sink hears of an error, unless the body has ended already. */
  abort(reason = new Error('The request was aborted.')): void {
    this.#call.abort(reason)
  }

  onHead(status: number, headers: HeaderFields): void {
    this.status = status
    this.headers = headers
  }

  onData(chunk: Buffer): void {
    if (this.#sink !== null) {
      this.#deliver(chunk)
    } else if (this.#early === null) {
      // Whoever reads it is there before the next chunk is, nearly always: pausing would cost more than the chunk.
      this.#early = chunk
      this.#resolveFirstByte(null)
    } else {
      this.#early = Buffer.concat([this.#early, chunk])
      this.pause()
    }
  }

  /** A sink that cannot take the bytes ends the exchange with the upstream. */
  #deliver(chunk: Buffer): void {
    try {
      this.#sink?.data(chunk)
    } catch (cause) {
      this.abort(cause instanceof Error ? cause : new Error(String(cause)))
    }
  }

  onEnd(): void {
    this.#ended = 'complete'
    this.#resolveFirstByte(null)
    this.#sink?.end()
  }

  onError(cause: Error): void {
    this.#ended = cause
    this.#resolveFirstByte({ kind: outboundFailure(cause), cause })
    this.#sink?.error(cause)
  }
}
