import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A billing system on loopback, which keeps what it was sent and answers as it is told. */
export interface Receiver extends AsyncDisposable {
  url: string
  posts: ReceivedPost[]
  /** How it answers from now on. */
  answer: (post: ReceivedPost, response: ServerResponse) => void
}

export interface ReceivedPost {
  headers: IncomingHttpHeaders
  body: Buffer
  events: ReceivedEvent[]
  requestId: string
  path: string
}

export interface ReceivedEvent {
  idempotencyKey: string
  sequence: number
  requestId: string
  requestMetadata: unknown
  test?: boolean
}

export async function startReceiver(answer: Receiver['answer'] = status(200)): Promise<Receiver> {
  const server = createServer(async (incoming, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of incoming) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const post: ReceivedPost = {
      headers: incoming.headers,
      body,
      events: JSON.parse(body.toString()).data.events,
      requestId: String(incoming.headers['x-baseten-request-id']),
      path: incoming.url ?? '',
    }
    receiver.posts.push(post)
    receiver.answer(post, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const receiver: Receiver = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/billing`,
    posts: [],
    answer,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return receiver
}

/** Answers everything with `code`. */
export function status(code: number, headers: Record<string, string> = {}): Receiver['answer'] {
  return (_post, response) => response.writeHead(code, headers).end('{"a":"body"}')
}

/** Answers nothing, ever. */
export function hang(): void {}
