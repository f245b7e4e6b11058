import type { FastifyInstance, FastifyRequest } from 'fastify'
import { serializerCompiler } from 'fastify-type-provider-zod'
import type { z } from 'zod'
import type { Database } from '../storage/database.ts'
import { authenticate, type Caller } from './authentication.ts'
import { schemaError } from './error-answers.ts'
import { routeSchema } from './openapi.ts'
import type { Route } from './route.ts'

export interface MountParts {
  database: Database
  operatorKeyHash: string
}

/**
 * Serves `routes`: knows the caller before a byte of the body is read, parses what came by the route's schemas, runs
 * the handler, in a transaction where it may write, and lets out what the response schema declares.
 */
export function mountRoutes(
  server: FastifyInstance,
  routes: readonly Route[],
  { database, operatorKeyHash }: MountParts,
): void {
  server.setValidatorCompiler<z.ZodType>(({ schema }) => (given) => {
    const parsed = schema.safeParse(given ?? {})
    return parsed.success ? { value: parsed.data } : { error: schemaError(parsed.error) }
  })
  server.setSerializerCompiler(serializerCompiler)
  const callers = new WeakMap<FastifyRequest, Caller>()

  for (const route of routes) {
    server.route({
      method: route.method,
      url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
      schema: routeSchema(route),
      async onRequest(request) {
        const caller = await authenticate(
          { authorization: request.headers.authorization, permission: route.permission, path: route.path },
          { queries: database.queries, operatorKeyHash },
        )
        callers.set(request, caller)
      },
      async handler(request, reply) {
        const { params, query, body } = request
        const input = { params, query, body, ...callers.get(request) }
        const answer =
          route.method === 'GET'
            ? await route.serve({ ...input, queries: database.queries })
            : await database.transaction((transaction) => route.serve({ ...input, transaction }))
        return reply.type(route.contentType).send(answer)
      },
    })
  }
}
