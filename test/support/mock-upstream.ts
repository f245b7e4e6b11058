import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type Clock, systemClock } from '../../src/clock.ts'
import { answer } from './mock-upstream/answer.ts'
import { RecordedRequest } from './mock-upstream/recorded-request.ts'
import type { Script, ScriptSource } from './mock-upstream/script.ts'

/** Starts a model server for tests on a free port of 127.0.0.1; dispose of it to end every answer still open. */
export async function startMockUpstream(options: MockUpstreamOptions = {}): Promise<MockUpstream> {
  const upstream = new MockUpstream(options)
  await upstream.listen()
  return upstream
}

export interface MockUpstreamOptions {
  /** How requests are answered until `script` says otherwise. */
  script?: ScriptSource
  /** Scripts for single models, by the name that a request asks for. */
  models?: Record<string, ScriptSource>
  /** Times `chunkDelayMs` and `endedAtMs`. */
  clock?: Clock
}

/**
 * A model server for tests, on a real socket: OpenAI's chat completions, completions, embeddings, responses and
 * models, and Anthropic's messages, in their wire formats. What it says is deterministic; how it says it, and what
 * goes wrong, is scripted. Every request is recorded once its body has been read.
 *
 * The script of a request's model counts, else the general one. A test that steps through a stream says
 * `pace: 'manual'`, takes the request with `nextRequest` and lets out one chunk after the other with `release`.
 */
export class MockUpstream implements AsyncDisposable {
  readonly requests: RecordedRequest[] = []
  readonly #server = createServer({ keepAliveTimeout: 60_000 }, (incoming, response) => {
    void this.#serve(incoming, response)
  })
  readonly #clock: Clock
  readonly #models = new Map<string, ScriptSource>()
  readonly #waiting: ((request: RecordedRequest) => void)[] = []
  #script: ScriptSource
  #handedOut = 0
  #accepting = true
  #connections = 0

  constructor({ script = {}, models = {}, clock = systemClock }: MockUpstreamOptions) {
    this.#script = script
    this.#clock = clock
    for (const [name, source] of Object.entries(models)) this.#models.set(name, source)
    this.#server.on('connection', (socket: Socket) => {
      this.#connections += 1
      if (!this.#accepting) socket.resetAndDestroy()
    })
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
  }

  get origin(): string {
    const { port } = this.#server.address() as AddressInfo
    return `http://127.0.0.1:${port}`
  }

  /** What a model's `base_url` is: it ends before `/chat/completions`. */
  get baseUrl(): string {
    return `${this.origin}/v1`
  }

  /** Connections accepted since the start, those that were reset included. */
  get connectionsAccepted(): number {
    return this.#connections
  }

  /** From now on, requests are answered like this. */
  script(source: ScriptSource): void {
    this.#script = source
  }

  /** From now on, requests for this model are answered like this. */
  scriptModel(name: string, source: ScriptSource): void {
    this.#models.set(name, source)
  }

  /** Closes all connections and resets new ones as soon as they are accepted. */
  refuseConnections(): void {
    this.#accepting = false
    this.#server.closeAllConnections()
  }

  acceptConnections(): void {
    this.#accepting = true
  }

  /** The requests one by one in the order of arrival; waits for the next when all have been handed out. */
  nextRequest(): Promise<RecordedRequest> {
    const request = this.requests[this.#handedOut++]
    return request === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(request)
  }

  /** Ends every answer that is still open. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const bytes = await readBody(incoming)
    if (bytes === null) return
    const request = this.#record(incoming, bytes)
    response.on('finish', () => request.progress.end('completed'))
    response.on('close', () => request.progress.end('aborted'))
    try {
      await answer({ request, script: this.#scriptFor(request), response, clock: this.#clock })
    } catch (error) {
      // A script that throws is a mistake of the test: say so where the test can see it.
      if (response.headersSent) response.destroy()
      else response.writeHead(500, { 'content-type': 'text/plain' }).end(`The mock upstream cannot do this: ${error}`)
    }
  }

  #record(incoming: IncomingMessage, bytes: Buffer): RecordedRequest {
    const request = new RecordedRequest({
      index: this.requests.length,
      method: incoming.method ?? '',
      path: new URL(incoming.url ?? '', this.origin).pathname,
      rawHeaders: incoming.rawHeaders,
      headers: incoming.headers,
      bytes,
      monotonic: () => this.#clock.monotonic(),
    })
    this.requests.push(request)
    this.#waiting.shift()?.(request)
    return request
  }

  #scriptFor(request: RecordedRequest): Script {
    const source = this.#models.get(request.model) ?? this.#script
    return typeof source === 'function' ? source(request) : source
  }
}

/** The whole body, or null when the client goes away before its end. */
async function readBody(incoming: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of incoming) chunks.push(chunk)
    return Buffer.concat(chunks)
  } catch {
    return null
  }
}
