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
      try {
        return JSON.parse(body.toString('utf8'))
      } catch (cause) {
        throw new ApiError('VALIDATION_ERROR', { message: 'The request body is not valid JSON.', cause })
      }
    },
  )
}
