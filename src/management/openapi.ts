import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { type ErrorCode, errorCatalogue } from '../errors.ts'
import { ErrorAnswer } from './error-answers.ts'
import type { Route } from './route.ts'

/** The OpenAPI document's own part; the routes bring the rest (contract §2). */
export const openApiOptions: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'Tollgate management API',
      version: '1.0.0',
      description: 'Workspaces, models, endpoints, groups and keys of the gateway.',
    },
    components: {
      securitySchemes: {
        key: {
          type: 'apiKey',
          in: 'header',
          name: 'authorization',
          description: '`Api-Key <key>` or `Bearer <key>`: a workspace key, or the operator key on operator routes.',
        },
      },
    },
  },
  transform: createJsonSchemaTransform({}),
  transformObject: createJsonSchemaTransformObject({}),
}

/** What Fastify keeps of a route: its schemas for both directions, and its entry in the document. */
export function routeSchema(route: Route): object {
  return {
    summary: route.summary,
    tags: [route.tag],
    security: [{ key: [] }],
    params: route.params,
    querystring: route.query,
    ...(route.body === undefined ? {} : { body: route.body }),
    response: {
      200: { description: 'Success', content: { [route.contentType]: { schema: route.response } } },
      ...errorResponses(route),
    },
  }
}

function errorResponses({ path, body, errors }: Route): Record<string, object> {
  const codes = new Set<ErrorCode>([
    'VALIDATION_ERROR',
    'UNAUTHORIZED',
    'FORBIDDEN',
    ...(path.includes('{') ? (['NOT_FOUND'] as const) : []),
    ...(body === undefined ? [] : (['PAYLOAD_TOO_LARGE'] as const)),
    ...errors,
    'RATE_LIMITED',
    'INTERNAL',
  ])
  return Object.fromEntries(
    [...codes].map((code) => [
      errorCatalogue[code].status,
      { description: errorCatalogue[code].message, content: { 'application/json': { schema: ErrorAnswer } } },
    ]),
  )
}
