import type { ErrorType } from '@anthropic-ai/sdk/resources/shared'
import type { Frame } from './api.ts'

/** The body of an error answer in the shape of an API. */
export function errorBody(shape: 'openai' | 'anthropic', status: number, message: string): object {
  return shape === 'openai' ? { error: openaiError(status, message) } : anthropicError(status, message)
}

/** How OpenAI-compatible servers fail within a stream: an error object, then the regular end. */
export function openaiFailure(message: string): Frame[] {
  return [{ data: { error: openaiError(500, message) } }, { data: '[DONE]' }]
}

export function anthropicFailure(message: string): Frame[] {
  return [{ event: 'error', data: anthropicError(529, message) }]
}

function openaiError(status: number, message: string) {
  const kinds: Record<number, { type: string; code: string | null }> = {
    401: { type: 'invalid_request_error', code: 'invalid_api_key' },
    404: { type: 'invalid_request_error', code: 'model_not_found' },
    429: { type: 'requests', code: 'rate_limit_exceeded' },
  }
  const kind = kinds[status] ?? { type: status < 500 ? 'invalid_request_error' : 'server_error', code: null }
  return { message, type: kind.type, param: null, code: kind.code }
}

function anthropicError(status: number, message: string): object {
  const types: Record<number, ErrorType | 'request_too_large'> = {
    401: 'authentication_error',
    403: 'permission_error',
    404: 'not_found_error',
    413: 'request_too_large',
    429: 'rate_limit_error',
    504: 'timeout_error',
    529: 'overloaded_error',
  }
  const type = types[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error')
  return { type: 'error', error: { type, message }, request_id: 'req_mock0000000000000000' }
}
