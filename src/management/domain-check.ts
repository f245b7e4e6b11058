import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { ApiError, invalid, notFound } from '../errors.ts'
import { isLoopbackAddress } from '../outbound-addresses.ts'
import type { Database } from '../storage/database.ts'

const Query = z.object({
  domain: z
    .string()
    .min(1)
    .max(253)
    .regex(/^[^\0]*$/),
})

/**
 * Tells a TLS terminator on this machine whether to ask for a certificate: 200 for a hostname that a workspace has
 * claimed, 404 for any other (contract §16). Needs no key, and answers nobody from elsewhere.
 */
export function mountDomainCheck(server: FastifyInstance, { database }: { database: Database }): void {
  server.get('/v1/gateway/domains/check', { schema: { hide: true } }, async (request) => {
    if (!isLoopbackAddress(request.socket.remoteAddress ?? '')) throw new ApiError('FORBIDDEN')
    const query = Query.safeParse(request.query)
    if (!query.success) throw invalid('domain', 'Must be a hostname.')
    const row = await database.queries
      .selectFrom('domains')
      .select('hostname')
      .where('hostname', '=', query.data.domain.toLowerCase())
      .executeTakeFirst()
    if (row === undefined) throw notFound('domain')
    return row
  })
}
