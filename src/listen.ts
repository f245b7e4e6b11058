import type { AddressInfo, Server } from 'node:net'
import { type Clock, sleep } from './clock.ts'
import type { ListenAddress } from './config.ts'
import { StartError } from './errors.ts'

export interface ListenOptions extends ListenAddress {
  /** The setting that the address comes from, for the sentence that says that it cannot be listened on. */
  variable: string
  /** Whether other processes may listen on the same address; the kernel then shares connections out. */
  isShared?: boolean
}

/** Resolves with the base URL once `server` accepts connections. Throws `StartError`. */
export function listen(server: Server, { host, port, variable, isShared = false }: ListenOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new StartError(`${variable}: cannot listen on ${host}:${port}: ${cause.message}.`, { cause }))
    })
    server.listen({ host, port, backlog: 2048, reusePort: isShared }, () => {
      const { address, family, port: taken } = server.address() as AddressInfo
      resolve(`http://${family === 'IPv6' ? `[${address}]` : address}:${taken}`)
    })
  })
}

/** A server that listens until it is drained, and not after that, however close together the two are asked for. */
export class ServingTime {
  readonly #server: KeepAliveServer
  #listening: Promise<string> | null = null
  #isOver = false

  constructor(server: KeepAliveServer) {
    this.#server = server
  }

  /** As `listen`. Rejects where `drain` was called before. */
  async listen(options: ListenOptions): Promise<string> {
    if (this.#isOver) throw new Error('The server is draining: it listens no more.')
    this.#listening = listen(this.#server, options)
    return this.#listening
  }

  /** Stops accepting and waits for the requests in flight; what is left after `timeoutMs` is cut. */
  async drain(options: { clock: Clock; timeoutMs: number }): Promise<void> {
    this.#isOver = true
    // A server that is about to listen cannot be closed yet, and would stay open.
    await this.#listening?.catch(() => undefined)
    await drain(this.#server, options)
  }
}

const idleCheckMs = 50

/** A server whose connections are kept alive. */
export interface KeepAliveServer extends Server {
  closeIdleConnections(): void
  closeAllConnections(): void
}

async function drain(
  server: KeepAliveServer,
  { clock, timeoutMs }: { clock: Clock; timeoutMs: number },
): Promise<void> {
  if (!server.listening) return
  const ended = new AbortController()
  const closed = new Promise<void>((resolve) => server.close(() => resolve())).finally(() => ended.abort())
  const deadlineMs = clock.monotonic() + timeoutMs
  // A connection that is kept alive becomes idle when its last request ends, and would stay open.
  while (!ended.signal.aborted && clock.monotonic() < deadlineMs) {
    server.closeIdleConnections()
    await sleep(clock, Math.min(idleCheckMs, timeoutMs), ended.signal)
  }
  server.closeAllConnections()
  await closed
}
