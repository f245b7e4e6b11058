import { lookup } from 'node:dns'
import { isIP, type LookupFunction, type OnReadOpts } from 'node:net'
import { Agent, buildConnector, errors } from 'undici'
import type { Clock } from './clock.ts'
import { HttpProtocolError } from './http1/headers.ts'
import type { OutboundCall, OutboundHandler } from './outbound/call.ts'
import { type OutboundRequest, OutboundTimeoutError } from './outbound/connection.ts'
import { ConnectionPool } from './outbound/connection-pool.ts'
import { sharedReads } from './outbound/shared-reads.ts'
import { isForbiddenAddress, isLoopbackAddress } from './outbound-addresses.ts'

/**
 * Every connection that the gateway opens: keep-alive pools by origin, a deadline on each phase, and forbidden
 * addresses judged when connecting, after the name is resolved, so that a DNS answer that changes between
 * check and use gains nothing (contract §6).
 */
export interface Outbound extends AsyncDisposable {
  /** Sends one request; `handler` hears of everything that becomes of it. Never throws. */
  dispatch(request: OutboundRequest, handler: OutboundHandler): OutboundCall
}

export interface Deadlines {
  connectTimeoutMs: number
  firstByteTimeoutMs: number
  /** Longest pause within a response. */
  idleTimeoutMs: number
}

export function openOutbound({
  connectTimeoutMs,
  firstByteTimeoutMs,
  idleTimeoutMs,
  clock,
}: Deadlines & { clock: Clock }): Outbound {
  const connect = guardedConnector({ timeoutMs: connectTimeoutMs, mayCall: isCallable, onread: sharedReads })
  const pool = new ConnectionPool({
    connect: ({ protocol, host, hostname, port }, callback) => {
      connect({ protocol, host, hostname, port }, callback)
    },
    clock,
    firstByteTimeoutMs,
    idleTimeoutMs,
  })
  return {
    dispatch: (request, handler) => pool.dispatch(request, handler),
    [Symbol.asyncDispose]: async () => pool.close(),
  }
}

/**
 * Requests to the receivers that labs name. They go to https, and to http only where the connection really ends on
 * this machine, whatever the name in the URL resolves to (contract §14).
 */
export interface Postbox extends AsyncDisposable {
  /** Sends one POST and reads its answer to the end, all of it within `attemptMs`. Redirects are not followed. Never rejects. */
  post(request: PostRequest): Promise<PostAnswer>
}

export interface PostRequest {
  url: string
  headers: Record<string, string>
  body: Buffer
}

export type PostAnswer =
  | { answered: true; status: number; retryAfter: string | null }
  | { answered: false; failure: OutboundFailure }

export interface PostboxOptions {
  clock: Clock
  attemptMs?: number
  /** How names become addresses: as the system does it. */
  resolve?: typeof lookup
}

/** What a receiver says beyond its status is read, so that the connection can serve again, up to this. */
const answerBytesMax = 64 * 1024

export function openPostbox({ clock, attemptMs = 10_000, resolve = lookup }: PostboxOptions): Postbox {
  const connectHttp = guardedConnector({ timeoutMs: attemptMs, mayCall: isLoopbackAddress, resolve })
  const connectHttps = guardedConnector({ timeoutMs: attemptMs, mayCall: isCallable, resolve })
  const agent = new Agent({
    connect: (options, callback) =>
      options.protocol === 'https:' ? connectHttps(options, callback) : connectHttp(options, callback),
    headersTimeout: 0,
    bodyTimeout: 0,
    pipelining: 1,
  })
  return {
    async post(request) {
      // A connection that is being made does not hear of the abort: the answer does not wait for it.
      const abort = new AbortController()
      const deadline = Promise.withResolvers<PostAnswer>()
      const timer = clock.after(attemptMs, () => {
        abort.abort()
        deadline.resolve({ answered: false, failure: 'timeout' })
      })
      const answer = await Promise.race([postOnce(agent, request, abort.signal), deadline.promise])
      timer.cancel()
      return answer
    },
    [Symbol.asyncDispose]: () => agent.destroy(),
  }
}

async function postOnce(agent: Agent, { url, headers, body }: PostRequest, signal: AbortSignal): Promise<PostAnswer> {
  const { origin, pathname, search } = new URL(url)
  try {
    const answer = await agent.request({ origin, path: pathname + search, method: 'POST', headers, body, signal })
    await answer.body.dump({ limit: answerBytesMax, signal })
    const retryAfter = answer.headers['retry-after']
    return { answered: true, status: answer.statusCode, retryAfter: typeof retryAfter === 'string' ? retryAfter : null }
  } catch (error) {
    return {
      answered: false,
      failure: error instanceof errors.ConnectTimeoutError ? 'timeout' : outboundFailure(error),
    }
  }
}

/** The connection was not attempted: its address is one that the gateway never calls. */
export class ForbiddenAddressError extends Error {
  constructor(host: string) {
    super(`${host} is, or resolves to, an address that may not be called.`)
    this.name = 'ForbiddenAddressError'
  }
}

export type OutboundFailure = 'timeout' | 'forbidden-address' | 'unreachable' | 'protocol'

/** What kind of failure an error that a handler was given stands for. */
export function outboundFailure(error: unknown): OutboundFailure {
  if (error instanceof OutboundTimeoutError) return 'timeout'
  if (error instanceof ForbiddenAddressError) return 'forbidden-address'
  if (error instanceof HttpProtocolError || error instanceof errors.HTTPParserError) return 'protocol'
  return 'unreachable'
}

interface Guard {
  timeoutMs: number
  /** Judges every address that a name resolves to: one that may not be called spoils the name. */
  mayCall: (address: string) => boolean
  resolve?: typeof lookup
  /** In place of reading through a stream. */
  onread?: OnReadOpts
}

function guardedConnector({ timeoutMs, mayCall, resolve = lookup, ...reading }: Guard): buildConnector.connector {
  const guardedLookup: LookupFunction = (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, [])
      if (!addresses.every(({ address }) => mayCall(address))) return callback(new ForbiddenAddressError(hostname), [])
      if (options.all === true) return callback(null, addresses)
      const [first] = addresses
      if (first === undefined) return callback(new Error(`${hostname} has no address.`), [])
      callback(null, first.address, first.family)
    })
  }
  const connect = buildConnector({ timeout: timeoutMs, lookup: guardedLookup, keepAlive: true, ...reading })
  return (options, callback) => {
    const host = options.hostname.replace(/^\[|\]$/g, '')
    if (isIP(host) !== 0 && !mayCall(host)) {
      callback(new ForbiddenAddressError(host), null)
      return
    }
    connect(options, callback)
  }
}

function isCallable(address: string): boolean {
  return !isForbiddenAddress(address)
}
