import { randomUUID } from 'node:crypto'
import { UnavailableError } from '../errors.ts'
import type { ProtocolAnswer, ProtocolProblem } from '../inbound/connection.ts'
import type { InboundRequest } from '../inbound/request.ts'
import type { InboundResponse } from '../inbound/response.ts'
import { InboundServer } from '../inbound/server.ts'
import { JournalError } from '../ledger/journal.ts'
import { apis } from './api.ts'
import { ClientConnection } from './client-connection.ts'
import { type ExchangeParts, exchange, identify } from './exchange.ts'
import { renderModelList, renderOpenAiError } from './openai.ts'
import { malformedRequest, type Refusal, refusals } from './refusal.ts'

export interface InferenceListenerOptions {
  /** Longest time a client may take to send its whole request. */
  requestTimeoutMs: number
  /** So many clients may be connected at a time. */
  connectionsMax: number
}

/** The listener that faces the lab's customers: inference routes and `/health`, and nothing else (contract §2). */
export interface InferenceListener {
  server: InboundServer
  /** Resolves once nothing is under way any more: also what a client left behind that has gone is recorded then. */
  idle(): Promise<void>
}

export function createInferenceListener(
  parts: ExchangeParts,
  { requestTimeoutMs, connectionsMax }: InferenceListenerOptions,
): InferenceListener {
  const underWay = new RequestsUnderWay()
  const listenerParts = { ...parts, underWay }
  const server = new InboundServer({
    onRequest: (incoming, response) => void answer(listenerParts, incoming, response),
    answerTo: refuseProtocol,
    clock: parts.clock,
    headTimeoutMs: Math.min(requestTimeoutMs, 60_000),
    requestTimeoutMs,
    keepAliveMs: 75_000,
    stallTimeoutMs: parts.stallTimeoutMs,
    connectionsMax,
    onConnectionRefused: parts.metrics.connectionRefused,
    checkEveryMs: Math.min(requestTimeoutMs, 5_000),
  })
  return { server, idle: () => underWay.none() }
}

/** A request outlives its connection: who has been served in part is recorded when the connection is gone. */
class RequestsUnderWay {
  #count = 0
  #whenNone: (() => void)[] = []

  begin(): void {
    this.#count += 1
  }

  end(): void {
    this.#count -= 1
    if (this.#count > 0) return
    for (const callback of this.#whenNone) callback()
    this.#whenNone = []
  }

  none(): Promise<void> {
    return this.#count === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenNone.push(resolve))
  }
}

interface ListenerParts extends ExchangeParts {
  underWay: RequestsUnderWay
}

async function answer(parts: ListenerParts, incoming: InboundRequest, response: InboundResponse): Promise<void> {
  parts.underWay.begin()
  const path = pathOf(incoming)
  const api = apis.get(path)
  const client = new ClientConnection(response, { requestId: randomUUID(), renderError: renderOpenAiError })
  try {
    if (path === '/health') client.sendJson(200, { status: 'ok' })
    else if (path === '/v1/models') await listModels(parts, { incoming, client })
    else if (api === undefined) client.refuse(refusals.notFound)
    else if (incoming.method !== 'POST') client.refuse(refusals.methodNotAllowed)
    else await exchange(parts, { incoming, client, api })
  } catch (cause) {
    parts.log.error({ requestId: client.requestId, err: cause }, 'inference request failed')
    if (cause instanceof JournalError) parts.metrics.eventUnrecorded()
    if (client.started) client.cut()
    else client.refuse(cause instanceof UnavailableError ? refusals.unavailable : refusals.internal)
  } finally {
    if (api !== undefined) parts.metrics.requestAnswered({ slug: client.slug ?? 'none', status: client.status })
    parts.underWay.end()
  }
}

async function listModels(
  parts: ExchangeParts,
  { incoming, client }: { incoming: InboundRequest; client: ClientConnection },
): Promise<void> {
  if (incoming.method !== 'GET') return client.refuse(refusals.methodNotAllowed)
  const identity = await identify(incoming, parts)
  if (!identity.accepted) return client.refuse(identity.refusal)
  client.sendJson(200, renderModelList(await parts.directory.slugs(identity.caller)))
}

function pathOf({ target }: InboundRequest): string {
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}

/** What is no HTTP, or comes too slowly, is answered in the shape that SDKs can read. */
function refuseProtocol(problem: ProtocolProblem): ProtocolAnswer {
  const refusal = protocolRefusals[problem]
  return {
    status: refusal.status,
    headers: ['content-type', 'application/json'],
    body: JSON.stringify(renderOpenAiError(refusal)),
  }
}

const protocolRefusals: Record<ProtocolProblem, Refusal> = {
  malformed: malformedRequest('The request is not valid HTTP.'),
  'too-slow': refusals.bodyTooSlow,
  'head-too-large': {
    status: 431,
    type: 'invalid_request_error',
    code: 'headers_too_large',
    message: 'The request headers are too large.',
  },
}
