import type { HeaderList } from '../http1/headers.ts'
import { describeRefusal, type RefusedLimit } from '../limits/limiter.ts'
import { slugLengthMax } from '../slug.ts'

/**
 * An inference request that is not served: what the customer is told, in whichever dialect is spoken. Nothing
 * here names the product, a group id or an upstream host (contract §11).
 */
export interface Refusal {
  status: number
  type: string
  code: string | null
  message: string
  param?: string | null
  limit?: { type: string; unit: string; threshold: number; scope: 'group' | 'parent' }
  headers?: HeaderList
}

export const refusals = {
  unauthorized: {
    status: 401,
    type: 'invalid_request_error',
    code: 'invalid_api_key',
    message: 'The API key is missing or not valid.',
  },
  forbidden: {
    status: 403,
    type: 'invalid_request_error',
    code: 'insufficient_permissions',
    message: 'This API key may not call models.',
  },
  notFound: {
    status: 404,
    type: 'invalid_request_error',
    code: 'not_found',
    message: 'There is nothing at this path.',
  },
  methodNotAllowed: {
    status: 405,
    type: 'invalid_request_error',
    code: 'method_not_allowed',
    message: 'This path does not take this method.',
  },
  bodyTooLarge: {
    status: 413,
    type: 'invalid_request_error',
    code: 'request_too_large',
    message: 'The request body is too large.',
  },
  bodyTooSlow: {
    status: 408,
    type: 'invalid_request_error',
    code: 'request_timeout',
    message: 'The request body did not arrive in time.',
  },
  upstreamFailed: {
    status: 502,
    type: 'server_error',
    code: 'bad_gateway',
    message: 'The model could not be reached or failed to answer. Try again.',
  },
  upstreamTooSlow: {
    status: 504,
    type: 'server_error',
    code: 'gateway_timeout',
    message: 'The model did not answer in time. Try again.',
  },
  internal: {
    status: 500,
    type: 'server_error',
    code: 'internal_error',
    message: 'Something went wrong on our side. Try again, and quote the request id if it stays.',
  },
  unavailable: {
    status: 503,
    type: 'server_error',
    code: 'service_unavailable',
    message: 'The service cannot take requests at this moment. Try again.',
    headers: ['retry-after', '1'],
  },
} as const satisfies Record<string, Refusal>

export function malformedRequest(message: string, param: string | null = null): Refusal {
  return { status: 400, type: 'invalid_request_error', code: null, message, param }
}

/** `name` is there twice, or in other letter case: servers could read it in more than one way. */
export function ambiguousName(name: string): Refusal {
  return malformedRequest(`\`${name}\` must stand in the request body once, in lower case.`, name)
}

/** The same answer whether the model does not exist, is not served or is not this caller's (contract §11). */
export function modelNotFound(slug: string): Refusal {
  return {
    status: 404,
    type: 'invalid_request_error',
    code: 'model_not_found',
    message: `The model '${beginning(slug)}' does not exist or you do not have access to it.`,
    param: 'model',
  }
}

/** All of a slug that could exist. */
function beginning(slug: string): string {
  return slug.length <= slugLengthMax ? slug : `${slug.slice(0, slugLengthMax)}…`
}

/** A request that does not fit one of its limits (contract §12). */
export function limitExceeded(refused: RefusedLimit): Refusal {
  const { limit, type, unit, threshold, scope, retryAfterMs, neverFits } = refused
  return {
    status: 429,
    type: type === 'REQUEST' ? 'requests' : 'tokens',
    code: limit === 'rate' ? 'rate_limit_exceeded' : 'usage_limit_exceeded',
    message: describeRefusal(refused),
    limit: { type, unit, threshold, scope },
    headers: [
      'retry-after',
      String(Math.max(1, Math.ceil(retryAfterMs / 1000))),
      'retry-after-ms',
      String(Math.ceil(retryAfterMs)),
      ...(unit === 'DAY' || neverFits ? ['x-should-retry', 'false'] : []),
    ],
  }
}
