import { lookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { Agent, buildConnector, type Dispatcher, errors } from 'undici'
import { isForbiddenAddress } from './outbound-addresses.ts'

/**
 * Every connection that the gateway opens: keep-alive pools by origin, a deadline on each phase, and forbidden
 * addresses judged when connecting, after the name is resolved, so that a DNS answer that changes between
 * check and use gains nothing (contract §6).
 */
export interface Outbound extends AsyncDisposable {
  /** Sends one request; `handler` hears of everything that becomes of it. Never throws. */
  dispatch(request: OutboundRequest, handler: Dispatcher.DispatchHandler): void
}

export interface OutboundRequest {
  origin: string
  path: string
  method: 'GET' | 'POST'
  headers: readonly string[]
  body: Buffer | null
}

export interface Deadlines {
  connectTimeoutMs: number
  firstByteTimeoutMs: number
  /** Longest pause within a response. */
  idleTimeoutMs: number
}

export type OutboundHandler = Dispatcher.DispatchHandler
export type OutboundController = Dispatcher.DispatchController

export function openOutbound({ connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs }: Deadlines): Outbound {
  const agent = new Agent({
    connect: guardedConnector(connectTimeoutMs),
    headersTimeout: firstByteTimeoutMs,
    bodyTimeout: idleTimeoutMs,
    keepAliveTimeout: 30_000,
    maxResponseSize: -1,
    pipelining: 1,
  })
  return {
    dispatch({ origin, path, method, headers, body }, handler) {
      agent.dispatch({ origin, path, method, headers: headers as string[], body }, handler)
    },
    [Symbol.asyncDispose]: () => agent.destroy(),
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
  if (error instanceof errors.HeadersTimeoutError || error instanceof errors.BodyTimeoutError) return 'timeout'
  if (error instanceof ForbiddenAddressError) return 'forbidden-address'
  if (error instanceof errors.HTTPParserError || error instanceof errors.ResponseContentLengthMismatchError) return 'protocol'
  return 'unreachable'
}

function guardedConnector(timeout: number): buildConnector.connector {
  const connect = buildConnector({ timeout, lookup: guardedLookup, keepAlive: true })
  return (options, callback) => {
    const host = options.hostname.replace(/^\[|\]$/g, '')
    if (isIP(host) !== 0 && isForbiddenAddress(host)) {
      callback(new ForbiddenAddressError(host), null)
      return
    }
    connect(options, callback)
  }
}

const guardedLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, [])
    if (addresses.some(({ address }) => isForbiddenAddress(address))) {
      return callback(new ForbiddenAddressError(hostname), [])
    }
    if (options.all === true) return callback(null, addresses)
    const [first] = addresses
    if (first === undefined) return callback(new Error(`${hostname} has no address.`), [])
    callback(null, first.address, first.family)
  })
}
