import type { Socket } from 'node:net'
import type { FastifyError } from 'fastify'
import { z } from 'zod'
import { ApiError, type ErrorDetail, errorCatalogue, UnavailableError } from '../errors.ts'

const codes = Object.keys(errorCatalogue)

/** The shape of every error of the management API (contract §4). */
export const ErrorAnswer = z
  .object({
    code: z.enum(codes),
    message: z.string().describe('What went wrong, for people.'),
    details: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .describe('For VALIDATION_ERROR: each thing at fault, and where, as a dotted path.'),
  })
  .meta({ id: 'ErrorV1' })

export function errorAnswer({ code, message, details }: ApiError): z.output<typeof ErrorAnswer> {
  return { code, message, ...(details === undefined ? {} : { details }) }
}

/** The public form of whatever a request died of: an `ApiError` as it is, Fastify's own in our words, else a 500. */
export function toApiError(error: FastifyError | Error): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof UnavailableError)
    return new ApiError('INTERNAL', { message: databaseAway, retryAfterMs: 1_000, cause: error })
  const status = 'statusCode' in error ? error.statusCode : undefined
  if (status === undefined || status >= 500) return new ApiError('INTERNAL', { cause: error })
  if (status === 413) return new ApiError('PAYLOAD_TOO_LARGE', { cause: error })
  const message = ('code' in error && wordsFor[error.code]) || error.message
  return new ApiError('VALIDATION_ERROR', { message, cause: error })
}

const databaseAway = 'The database does not answer at this moment, or takes nothing more. Try again.'

const wordsFor: Record<string, string> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'The request body must be JSON, sent with content-type: application/json.',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'The request body is not as long as its content-length says.',
  FST_ERR_BAD_URL: 'The path is not a valid URL.',
}

/** A 400 that lists everything that a schema found wrong, each with its place. */
export function schemaError({ issues }: z.core.$ZodError): ApiError {
  const details = issues.flatMap(issueDetails)
  const [first, ...others] = details
  const where = first === undefined || first.path === '' ? '' : `${first.path}: `
  const more = others.length === 0 ? '' : ` (and ${others.length} more, see details)`
  return new ApiError('VALIDATION_ERROR', { message: `${where}${first?.message}${more}`, details })
}

function issueDetails(issue: z.core.$ZodIssue): ErrorDetail[] {
  const path = issue.path.map(String)
  if (issue.code !== 'unrecognized_keys') return [{ path: path.join('.'), message: issue.message }]
  return issue.keys.map((key) => ({
    path: [...path, key].join('.'),
    message: 'There is no such field here, or it cannot be set.',
  }))
}

/** What comes as something other than HTTP, or too slowly, is answered in the same shape, and the connection ends. */
export function answerMalformedHttp(error: NodeJS.ErrnoException, socket: Socket, requestId: string): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const message =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? 'The request did not arrive in time.'
      : 'The request is not valid HTTP, or its headers are too large.'
  const refusal = new ApiError('VALIDATION_ERROR', { message })
  const body = JSON.stringify(errorAnswer(refusal))
  const head = [
    'HTTP/1.1 400 Bad Request',
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${requestId}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
