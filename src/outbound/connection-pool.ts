import type { Socket } from 'node:net'
import { type Clock, repeat, type Timer } from '../clock.ts'
import { OutboundCall, type OutboundHandler } from './call.ts'
import { Connection, type OutboundRequest } from './connection.ts'

export interface ConnectionPoolOptions {
  /** Opens a connection to the origin, within its deadline. */
  connect: (origin: URL, callback: (...result: [error: null, Socket] | [Error, socket: null]) => void) => void
  clock: Clock
  firstByteTimeoutMs: number
  idleTimeoutMs: number
}

/** How often deadlines are looked at, at least. A timer for each of them would take 1.5 µs of a request. */
const checkEveryMsMax = 1_000

/** Many servers close after 5 s without saying so. A request that meets the closing fails. */
const keepAliveMsDefault = 4_000
const keepAliveMsMax = 60_000
/** Who closes after so many milliseconds has closed a little earlier for us. */
const keepAliveMarginMs = 1_000

interface FreeConnection {
  connection: Connection
  untilMs: number
}

/**
 * Connections to servers, kept for the next request: as many to an origin as it has requests at a time. The one that
 * became free last serves first, so that those no longer needed grow old and leave.
 */
export class ConnectionPool {
  readonly #options: ConnectionPoolOptions
  readonly #free = new Map<string, FreeConnection[]>()
  readonly #open = new Set<Connection>()
  readonly #checks: Timer
  #isClosed = false

  constructor(options: ConnectionPoolOptions) {
    this.#options = options
    const { clock, firstByteTimeoutMs, idleTimeoutMs } = options
    const checkEveryMs = Math.min(firstByteTimeoutMs / 8, idleTimeoutMs / 8, checkEveryMsMax)
    this.#checks = repeat(clock, checkEveryMs, () => {
      const nowMs = clock.monotonic()
      for (const connection of this.#open) connection.checkDeadline(nowMs)
      this.#closeUnneeded(nowMs)
    })
  }

  /** Never throws: the handler hears of every failure. */
  dispatch(request: OutboundRequest, handler: OutboundHandler): OutboundCall {
    const call = new OutboundCall(handler)
    const free = this.#takeFree(request.origin)
    if (free !== null) send(free, request, call)
    else this.#connect(request, call)
    return call
  }

  /** Closes all connections; requests under way fail. */
  close(): void {
    this.#isClosed = true
    this.#checks.cancel()
    for (const connection of this.#open) connection.destroy()
  }

  #connect(request: OutboundRequest, call: OutboundCall): void {
    const { origin } = request
    this.#options.connect(new URL(origin), (error, socket) => {
      if (error !== null) return call.failed(error)
      const connection = this.#opened(socket, origin)
      if (this.#isClosed) connection.destroy()
      if (call.isOver) this.#release(connection, origin)
      else send(connection, request, call)
    })
  }

  #takeFree(origin: string): Connection | null {
    const free = this.#free.get(origin)
    for (let next = free?.pop(); next !== undefined; next = free?.pop()) {
      if (next.connection.isOpen && next.untilMs > this.#options.clock.monotonic()) return next.connection
      next.connection.destroy()
    }
    return null
  }

  #opened(socket: Socket, origin: string): Connection {
    const { firstByteTimeoutMs, idleTimeoutMs } = this.#options
    const connection = new Connection(socket, {
      firstByteTimeoutMs,
      idleTimeoutMs,
      onFree: () => this.#release(connection, origin),
      onClosed: () => this.#forget(connection, origin),
    })
    this.#open.add(connection)
    return connection
  }

  #release(connection: Connection, origin: string): void {
    const saidMs = connection.keepAliveMs
    const keepAliveMs = saidMs === null ? keepAliveMsDefault : Math.min(saidMs - keepAliveMarginMs, keepAliveMsMax)
    const free = this.#free.get(origin) ?? []
    free.push({ connection, untilMs: this.#options.clock.monotonic() + keepAliveMs })
    this.#free.set(origin, free)
  }

  /** Those whose time is over would only be found where a request asks for them. */
  #closeUnneeded(nowMs: number): void {
    for (const free of this.#free.values()) {
      for (const { connection, untilMs } of free) if (untilMs <= nowMs) connection.destroy()
    }
  }

  #forget(connection: Connection, origin: string): void {
    this.#open.delete(connection)
    const left = (this.#free.get(origin) ?? []).filter((free) => free.connection !== connection)
    if (left.length === 0) this.#free.delete(origin)
    else this.#free.set(origin, left)
  }
}

function send(connection: Connection, request: OutboundRequest, call: OutboundCall): void {
  try {
    connection.send(request, call)
  } catch (cause) {
    connection.destroy()
    call.failed(cause instanceof Error ? cause : new Error(String(cause)))
  }
}
