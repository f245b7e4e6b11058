import { Server } from 'node:net'
import { repeat } from '../clock.ts'
import { type ConnectionOptions, InboundConnection } from './connection.ts'

type OwnOptions = 'keepsConnections' | 'date' | 'stallTimeoutMs'

export interface InboundServerOptions extends Omit<ConnectionOptions, OwnOptions> {
  stallTimeoutMs?: number
  /** So many connections are open at a time; more are closed as soon as they are accepted. */
  connectionsMax?: number
  onConnectionRefused?: () => void
  /** How often deadlines are looked at: so much later than they say, clients are cut off. */
  checkEveryMs: number
}

/**
 * The HTTP/1.1 server of the inference plane: a bounded number of connections, with a deadline for every state that a
 * client could leave them in, one exchange at a time on each.
 *
 * Why not `node:http`: of a small request it takes 25 µs, and a gateway's whole work takes no more. What is not needed
 * for that is left out: no streams between the socket and a request, no upgrades, no trailers. What is read is read by
 * the strictest reading of RFC 9112 (`request-reader.ts`).
 */
export class InboundServer extends Server {
  readonly #connections = new Set<InboundConnection>()

  constructor({
    checkEveryMs,
    stallTimeoutMs = 300_000,
    connectionsMax = Number.POSITIVE_INFINITY,
    onConnectionRefused = () => {},
    ...options
  }: InboundServerOptions) {
    super({ allowHalfOpen: true, noDelay: true })
    this.maxConnections = connectionsMax
    this.on('drop', onConnectionRefused)
    const { clock } = options
    const parts = { ...options, stallTimeoutMs, keepsConnections: () => this.listening, date: httpDate(clock) }
    this.on('connection', (socket) => {
      const connection = new InboundConnection(socket, parts)
      this.#connections.add(connection)
      socket.once('close', () => this.#connections.delete(connection))
    })

    this.once('listening', () => {
      const checks = repeat(clock, checkEveryMs, () => {
        const nowMs = clock.monotonic()
        for (const connection of this.#connections) connection.checkDeadline(nowMs)
      })
      this.once('close', () => checks.cancel())
    })
  }

  /** Closes the connections that carry no request. */
  closeIdleConnections(): void {
    for (const connection of this.#connections) if (connection.isIdle) connection.destroy()
  }

  /** Closes all connections, also those whose request is not answered yet. */
  closeAllConnections(): void {
    for (const connection of this.#connections) connection.destroy()
  }
}

/** RFC 9110 §6.6.1; written anew each second. */
function httpDate(clock: ConnectionOptions['clock']): () => string {
  let second = Number.NaN
  let text = ''
  return () => {
    const now = Math.floor(clock.now() / 1_000)
    if (now !== second) {
      second = now
      text = new Date(now * 1_000).toUTCString()
    }
    return text
  }
}
