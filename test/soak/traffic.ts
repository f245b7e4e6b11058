import { setTimeout as delay } from 'node:timers/promises'
import type { Customer } from './customers.ts'
import { bodyOf, isAbandoned, isStream } from './requests.ts'
import type { RestartedServer } from './restarted-server.ts'

/** A request whose answer its client saw complete. */
export interface Completed {
  requestId: string
  number: number
  customer: Customer
  /** The lives of the server at its beginning and its end: a rate is counted anew by a server that was killed. */
  lives: readonly [number, number]
  beganMs: number
  endedMs: number
}

/** So many call at once. */
export const clients = 24
const pauseMaxMs = 200
const framesBeforeLeaving = 3

/** Customers that call all the time; what they saw is kept. */
export class Traffic implements AsyncDisposable {
  readonly completed: Completed[] = []
  /** Request ids of the answers that their clients left. */
  readonly abandoned: string[] = []
  refused = 0
  /** No answer, or half of one: the server was being ended. */
  failed = 0
  /** What should never be answered, as status and body. */
  readonly unexpected: string[] = []
  readonly #server: RestartedServer
  readonly #customers: readonly Customer[]
  readonly #clients: Promise<void>[]
  #requests = 0
  #isOver = false

  constructor(server: RestartedServer, customers: readonly Customer[]) {
    this.#server = server
    this.#customers = customers
    this.#clients = Array.from({ length: clients }, () => this.#callOn())
  }

  /** Resolves once the last request has ended. */
  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#clients)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  summary(): string {
    const { completed, abandoned, refused, failed } = this
    return `${completed.length} completed, ${abandoned.length} abandoned, ${refused} refused, ${failed} cut off`
  }

  async #callOn(): Promise<void> {
    while (!this.#isOver) {
      const customer = this.#customers[Math.floor(Math.random() * this.#customers.length)]
      if (customer !== undefined) await this.#call(customer).catch(() => this.failed++)
      await delay(Math.random() * pauseMaxMs)
    }
  }

  async #call(customer: Customer): Promise<void> {
    const number = ++this.#requests
    const lifeBefore = this.#server.life
    const beganMs = performance.now()
    const leave = new AbortController()
    const response = await fetch(`${this.#server.inference}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${customer.key}`, 'content-type': 'application/json' },
      body: JSON.stringify(bodyOf(number)),
      signal: leave.signal,
    })
    const requestId = String(response.headers.get('x-request-id'))
    if (response.status === 200 && isAbandoned(number)) {
      await readFrames(response, framesBeforeLeaving)
      leave.abort()
      this.abandoned.push(requestId)
      return
    }
    const text = await response.text()
    if (response.status === 429) this.refused += 1
    else if (response.status !== 200) this.unexpected.push(`${response.status} ${text}`)
    else if (isStream(number) && !text.endsWith('data: [DONE]\n\n')) this.failed += 1
    else {
      const lives = [lifeBefore, this.#server.life] as const
      this.completed.push({ requestId, number, customer, lives, beganMs, endedMs: performance.now() })
    }
  }
}

/** Reads so many pieces of a stream that is sent frame by frame. */
async function readFrames({ body }: Response, frames: number): Promise<void> {
  const reader = body?.getReader()
  for (let read = 0; read < frames; read++) await reader?.read()
}
