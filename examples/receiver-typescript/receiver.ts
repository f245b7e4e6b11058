import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { type BillingEvent, EventStore } from './event-store.ts'
import { isAuthentic } from './signature.ts'

/**
 * A receiver of Tollgate's billing webhooks, with nothing but Node. It verifies each delivery, stores every event
 * once, and can prove that it has all of them:
 *
 *     TOLLGATE_SIGNING_SECRET=whsec_... node receiver.ts --port 9000 --database events.db
 *     curl http://127.0.0.1:9000/status
 *
 * What it answers decides what becomes of a delivery. 2xx: it is done; so answer only once the events are on disk.
 * 4xx: it is dead at once, and waits until somebody asks for it again. 5xx: it is sent again, for as long as the
 * webhook's retry window lasts.
 */
const { values } = parseArgs({
  options: { port: { type: 'string', default: '9000' }, database: { type: 'string', default: 'events.db' } },
})
const secret = process.env['TOLLGATE_SIGNING_SECRET']
if (secret === undefined) throw new Error('TOLLGATE_SIGNING_SECRET must be the signing_secret of the webhook.')
const store = new EventStore(values.database)

const server = createServer((request, response) => {
  answerTo(request, secret).then(
    ({ status, answer }) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    },
    // The sender went away, or sent what it should not have: it hears nothing, and tries again.
    () => response.destroy(),
  )
})
server.listen(Number(values.port), '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  process.stdout.write(`listening on http://127.0.0.1:${port}/\n`)
})

async function answerTo(request: IncomingMessage, secret: string): Promise<{ status: number; answer: object }> {
  if (request.method === 'GET' && request.url === '/status') return { status: 200, answer: store.status() }
  if (request.method !== 'POST') return { status: 404, answer: { error: 'not found' } }
  const body = await readBody(request)
  if (body === null) return { status: 413, answer: { error: 'too large' } }
  if (!isAuthentic(body, request.headers, secret)) {
    return { status: 401, answer: { error: 'the signature is not valid' } }
  }
  const { type, data } = JSON.parse(body.toString()) as { type: string; data: { events: BillingEvent[] } }
  if (type !== 'API_BILLING_USAGE') return { status: 200, answer: { ignored: type } }
  try {
    return { status: 200, answer: { stored: store.add(data.events) } }
  } catch (error) {
    // The disk is full, or the database is busy: that passes, so ask for another attempt.
    process.stderr.write(`cannot store ${request.headers['x-baseten-request-id']}: ${error}\n`)
    return { status: 503, answer: { error: 'try again' } }
  }
}

const bodyBytesMax = 4 * 1024 * 1024

async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
