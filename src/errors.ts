/**
 * Every error of the management API: its code, its HTTP status and its public sentence. What went wrong
 * inside travels as `cause`, into the log and never to the caller (contract §4).
 */
export const errorCatalogue = {
  VALIDATION_ERROR: { status: 400, message: 'The request is not valid.' },
  UNAUTHORIZED: { status: 401, message: 'The API key is missing or not valid.' },
  FORBIDDEN: { status: 403, message: 'This API key may not do that.' },
  NOT_FOUND: { status: 404, message: 'There is no such resource.' },
  CONFLICT: { status: 409, message: 'The request conflicts with the present state.' },
  PAYLOAD_TOO_LARGE: { status: 413, message: 'The request body is too large.' },
  RATE_LIMITED: { status: 429, message: 'Too many requests.' },
  INTERNAL: { status: 500, message: 'Something went wrong on our side. Quote the request id when you report it.' },
} as const satisfies Record<string, { status: number; message: string }>

export type ErrorCode = keyof typeof errorCatalogue

/** One thing wrong with a request, and where: a dotted path into the body, the query or the path. */
export interface ErrorDetail {
  path: string
  message: string
}

export interface ApiErrorOptions {
  message?: string
  details?: ErrorDetail[]
  retryAfterMs?: number
  cause?: unknown
}

/** A request that the management API does not serve. `message` is public. */
export class ApiError extends Error {
  readonly code: ErrorCode
  readonly details: ErrorDetail[] | undefined
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, { message, details, retryAfterMs, cause }: ApiErrorOptions = {}) {
    super(message ?? errorCatalogue[code].message, { cause })
    this.name = 'ApiError'
    this.code = code
    this.details = details
    this.retryAfterMs = retryAfterMs
  }

  get status(): number {
    return errorCatalogue[this.code].status
  }
}

/** A 400 that names the one field at fault. */
export function invalid(path: string, message: string): ApiError {
  return new ApiError('VALIDATION_ERROR', { message, details: [{ path, message }] })
}

/** A 404 that says what was not found, e.g. `notFound('group')`. */
export function notFound(resource: string): ApiError {
  return new ApiError('NOT_FOUND', { message: `There is no such ${resource}.` })
}

/** What a request needs is away, full or too slow at this moment: sent again, it may be served. */
export class UnavailableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'UnavailableError'
  }
}

/** A start that cannot go on; `message` tells the person at the terminal what to change. */
export class StartError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StartError'
  }
}
