import type { Clock, Timer } from '../clock.ts'
import type { HeaderList } from '../http1/headers.ts'
import { joined } from '../joined.ts'
import type { TokenCounts } from '../ledger/billing-event.ts'
import type { Metrics } from '../metrics.ts'
import { AnswerWriter } from './answer-writer.ts'
import type { Api } from './api.ts'
import type { Served } from './billing.ts'
import type { ClientConnection } from './client-connection.ts'
import { JsonBodyTap } from './json-body-tap.ts'
import { refusals } from './refusal.ts'
import type { InferenceRequest } from './request.ts'
import type { ResponseTap } from './response-tap.ts'
import { EventStreamTap } from './sse.ts'
import { TokenEstimate } from './token-estimate.ts'
import type { UpstreamResponse } from './upstream.ts'
import { readUsage } from './usage.ts'

export interface RelayParts {
  client: ClientConnection
  request: InferenceRequest
  api: Api
  clock: Clock
  metrics: Metrics
  /** Longest time a client may leave bytes unread while more wait behind them. */
  stallTimeoutMs: number
  /** Makes the outcome durable. The answer's last bytes leave only after it resolves. */
  record: (served: Served) => Promise<void>
}

/**
 * Passes a 200 on to the client as it comes, reads its usage along the way, and has the outcome recorded exactly
 * once before the last bytes leave. What upstream never began to serve is not recorded: the client gets an error,
 * and the reservation goes back (contract §11, §14). An error inside a 200, with nothing beside it, is such a case.
 *
 * A client that reads slowly pauses upstream; one that leaves ends it. From the first byte on there is no other
 * attempt: an upstream that dies is told to the client, in the stream or by a cut connection.
 */
export async function relay(response: UpstreamResponse, parts: RelayParts): Promise<void> {
  const { client, request, api, metrics, record } = parts
  const isStream = String(response.headers['content-type']).toLowerCase().startsWith('text/event-stream')
  const estimate = new TokenEstimate({ api, request })
  const tap: ResponseTap = isStream
    ? new EventStreamTap({
        dialect: api.dialect,
        model: request.slug,
        dropUsageChunk: !request.showsUsage,
        takeText: (text) => estimate.addOutput(text),
      })
    : new JsonBodyTap({ dialect: api.dialect, model: request.slug })
  const writer = new AnswerWriter(client, { headers: answerHeaders(response, { isStream }), holds: !isStream })

  if (isStream) metrics.streamOpened()
  const ending = await pass(response, parts, { tap, writer, isStream })
  if (isStream) metrics.streamClosed()

  const outcome = outcomeOf(ending.kind, tap)
  if (outcome !== 'completed') response.abort()
  const reported = tap.usage()
  const counted = reported === null ? null : readUsage(reported)
  const isMeasured = counted !== null && (outcome === 'completed' || !tap.isUsageOutrun)
  if (!isMeasured) estimate.addOutput(tap.producedText())
  // Of an answer in one piece that broke off, what left is of use to nobody who counts, and was produced all the same.
  const hasProduced = counted !== null || estimate.hasOutput || (writer.started && !isStream)
  const isPassedOn = writer.started || (ending.kind === 'ended' && tap.complete && hasProduced)
  const wasServed = { completed: true, client_closed: hasProduced, upstream_cut: hasProduced && isPassedOn }

  if (wasServed[outcome]) {
    await record({ outcome, ...(isMeasured ? measured(counted) : atLeast(counted, await estimate.tokens())) })
  }
  if (outcome === 'completed' || (isPassedOn && tap.error() !== null)) writer.end(ending.final)
  else if (!isPassedOn) client.refuse(refusals.upstreamFailed)
  else if (isStream) writer.end(api.renderErrorFrame(refusals.upstreamFailed))
  else client.cut()
}

type Counts = Pick<Served, 'tokens' | 'usageSource'>

function measured(tokens: TokenCounts): Counts {
  return { tokens, usageSource: 'upstream' }
}

/** What upstream counted before the answer broke off stands where the estimate of all of it is no more. */
function atLeast(counted: TokenCounts | null, estimated: TokenCounts): Counts {
  if (counted === null) return { tokens: estimated, usageSource: 'estimated' }
  const { outputTokens } = estimated
  return outputTokens > counted.outputTokens
    ? { tokens: { ...counted, outputTokens }, usageSource: 'estimated' }
    : measured(counted)
}

interface Ending {
  kind: 'ended' | 'upstream-failed' | 'client-gone'
  /** What the client must not see before the outcome is recorded. */
  final: Buffer
}

interface Passage {
  tap: ResponseTap
  writer: AnswerWriter
  isStream: boolean
}

/** Lets bytes flow until the answer has come to its end, upstream fails or the client goes. */
function pass(
  response: UpstreamResponse,
  { client, clock, stallTimeoutMs }: RelayParts,
  { tap, writer, isStream }: Passage,
): Promise<Ending> {
  return new Promise((resolve) => {
    const held: Buffer[] = []
    let stall: Timer | null = null
    const finish = (kind: Ending['kind']) => {
      stall?.cancel()
      // The rest of what upstream sends is nothing to anybody.
      response.discard()
      resolve({ kind, final: joined(held) })
    }
    const take = ({ send, final }: ReturnType<ResponseTap['push']>) => {
      if (final !== null) held.push(final)
      if (send === null || writer.write(send)) return
      response.pause()
      stall ??= clock.after(stallTimeoutMs, () => client.cut())
    }
    client.onDrain(() => {
      stall?.cancel()
      stall = null
      response.resume()
    })
    client.onGone(() => finish('client-gone'))
    response.readInto({
      data(chunk) {
        take(tap.push(chunk))
        // A stream says itself where it ends; some servers leave the connection open after it.
        if (isStream && tap.complete) finish('ended')
      },
      end() {
        take(tap.end())
        finish('ended')
      },
      // A client that leaves has upstream aborted, which is no failure of upstream's.
      error: () => finish(client.isGone ? 'client-gone' : 'upstream-failed'),
    })
  })
}

function outcomeOf(ending: Ending['kind'], tap: ResponseTap): Served['outcome'] {
  if (ending === 'client-gone') return 'client_closed'
  return ending === 'ended' && tap.complete && tap.error() === null ? 'completed' : 'upstream_cut'
}

/** What of upstream's headers the client sees: these, and nothing else (contract §11). */
function answerHeaders(response: UpstreamResponse, { isStream }: { isStream: boolean }): HeaderList {
  const given = response.headers['content-type']
  const contentType = ['content-type', typeof given === 'string' ? given : 'application/json']
  return isStream ? [...contentType, 'cache-control', 'no-cache', 'x-accel-buffering', 'no'] : contentType
}
