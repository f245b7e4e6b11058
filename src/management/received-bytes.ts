import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ApiError } from '../errors.ts'

const bytesOf = new WeakMap<FastifyRequest, Buffer>()

/** A request's body as it came: what its sender has signed. */
export function receivedBytes(request: FastifyRequest): Buffer {
  return bytesOf.get(request) ?? Buffer.alloc(0)
}

/** Parses JSON bodies. Many clients name a content type where they send no body: an empty one counts as none. */
export function acceptJson(server: FastifyInstance): void {
  server.removeContentTypeParser('application/json')
  server.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, body: Buffer) => {
      bytesOf.set(request, body)
      if (body.length === 0) return undefined
      // RFC 8259 §8.1: what is no UTF-8 would be stored as another text than was sent.
      if (!isUtf8(body)) throw new ApiError('VALIDATION_ERROR', { message: 'The request body is not valid UTF-8.' })
      try {
        return JSON.parse(body.toString('utf8'))
      } catch (cause) {
        throw new ApiError('VALIDATION_ERROR', { message: 'The request body is not valid JSON.', cause })
      }
    },
  )
}
