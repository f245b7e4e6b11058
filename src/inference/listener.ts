import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { UnavailableError } from '../errors.ts'
import { JournalError } from '../ledger/journal.ts'
import { apis } from './api.ts'
import { ClientConnection } from './client-connection.ts'
import { type ExchangeParts, exchange, identify } from './exchange.ts'
import { renderModelList, renderOpenAiError } from './openai.ts'
import { malformedRequest, type Refusal, refusals } from './refusal.ts'

export interface InferenceListenerOptions {
  /** Longest time a client may take to send its whole request. */
  requestTimeoutMs: number
}

/** The listener that faces the lab's customers: inference routes and `/health`, and nothing else (contract §2). */
export function createInferenceListener(parts: ExchangeParts, { requestTimeoutMs }: InferenceListenerOptions): Server {
  const server = createServer(
    {
      noDelay: true,
      keepAliveTimeout: 75_000,
      requestTimeout: requestTimeoutMs,
      headersTimeout: Math.min(requestTimeoutMs, 60_000),
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 5_000),
    },
    (incoming, outgoing) => {
      void answer(parts, incoming, outgoing)
    },
  )
  server.on('clientError', refuseMalformedHttp)
  return server
}

async function answer(parts: ExchangeParts, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const path = pathOf(incoming)
  const api = apis.get(path)
  const client = new ClientConnection(outgoing, { requestId: randomUUID(), renderError: renderOpenAiError })
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
  }
}

async function listModels(
  parts: ExchangeParts,
  { incoming, client }: { incoming: IncomingMessage; client: ClientConnection },
): Promise<void> {
  if (incoming.method !== 'GET') return client.refuse(refusals.methodNotAllowed)
  const identity = await identify(incoming, parts)
  if (!identity.accepted) return client.refuse(identity.refusal)
  client.sendJson(200, renderModelList(await parts.directory.slugs(identity.caller)))
}

function pathOf({ url = '/' }: IncomingMessage): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}

/** What Node's parser does not take for HTTP, or what came too slowly, is answered in the shape SDKs can read. */
function refuseMalformedHttp(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const refusal = malformedHttpRefusals[error.code ?? ''] ?? malformedRequest('The request is not valid HTTP.')
  const body = JSON.stringify(renderOpenAiError(refusal))
  const head = [
    `HTTP/1.1 ${refusal.status} Error`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

const malformedHttpRefusals: Record<string, Refusal> = {
  ERR_HTTP_REQUEST_TIMEOUT: refusals.bodyTooSlow,
  HPE_HEADER_OVERFLOW: {
    status: 431,
    type: 'invalid_request_error',
    code: 'headers_too_large',
    message: 'The request headers are too large.',
  },
}
