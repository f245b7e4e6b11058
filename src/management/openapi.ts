import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { type ErrorCode, errorCatalogue } from '../errors.ts'
import { ErrorAnswer } from './error-answers.ts'
import { idempotencyHeader } from './idempotency.ts'
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
          type: 'http',
          scheme: 'bearer',
          description:
            'A workspace key, or the operator key on operator routes. `Authorization: Api-Key <key>` means the same.',
        },
      },
    },
  },
  transform: jsonSchemaTransform,
  transformObject: jsonSchemaTransformObject,
}

/** What Fastify keeps of a route: its schemas for both directions, and its entry in the document. */
export function routeSchema(route: Route): object {
  return {
    summary: route.summary,
    tags: [route.tag],
    security: [{ key: [] }],
    'x-permission': route.permission,
    params: route.params,
    querystring: route.query,
    ...requestHeaders(route),
    ...(route.body === undefined ? {} : { body: route.body }),
    response: {
      200: { description: 'Success', content: { [route.contentType]: { schema: route.response } } },
      ...errorResponses(route),
    },
  }
}

/** Other headers than those that a route reads may come, too. */
function requestHeaders(route: Route): { headers?: z.ZodType } {
  const headers = { ...(isAnsweredOnce(route) ? idempotencyHeader : {}), ...route.headers }
  return Object.keys(headers).length === 0 ? {} : { headers: z.looseObject(headers) }
}

/** Whether an `Idempotency-Key` works: what happened outside of a transaction cannot be remembered in it. */
function isAnsweredOnce({ method, transaction }: Route): boolean {
  return method === 'POST' && transaction === 'one'
}

function errorResponses(route: Route): Record<string, object> {
  const codes = new Set<ErrorCode>(['VALIDATION_ERROR', 'UNAUTHORIZED', 'FORBIDDEN', 'RATE_LIMITED', 'INTERNAL'])
  const { path, body, errors } = route
  if (path.includes('{')) codes.add('NOT_FOUND')
  if (isAnsweredOnce(route)) codes.add('CONFLICT')
  if (body !== undefined) codes.add('PAYLOAD_TOO_LARGE')
  for (const code of errors) codes.add(code)
  return Object.fromEntries(
    [...codes].map((code) => {
      const { status, message } = errorCatalogue[code]
      return [status, { description: message, content: { 'application/json': { schema: ErrorAnswer } } }]
    }),
  )
}

/**
 * The document with each component once and under its own name. The type provider writes every schema in two forms,
 * `…Input` for requests; that name stays only where both forms are in use and differ, as they do where a request may
 * leave out what an answer always has.
 */
export function withPlainNames(document: ApiDocument): ApiDocument {
  const schemas: Record<string, unknown> = { ...document.components?.schemas }
  const inUse = new Set<string>()
  const visit = (part: unknown) => {
    for (const [, name = ''] of JSON.stringify(part).matchAll(reference)) {
      if (inUse.has(name)) continue
      inUse.add(name)
      visit(schemas[name])
    }
  }
  visit(document.paths)

  const expanded = (name: string): string =>
    JSON.stringify(schemas[name]).replaceAll(reference, (_, inner: string) => expanded(inner))
  const nameOf = (name: string): string => {
    const plain = name.replace(/Input$/, '')
    return inUse.has(plain) && expanded(name) !== expanded(plain) ? name : plain
  }
  const named = Object.fromEntries([...inUse].sort().map((name) => [nameOf(name), schemas[name]]))
  return JSON.parse(
    JSON.stringify({ ...document, components: { ...document.components, schemas: named } }).replaceAll(
      reference,
      (_, name: string) => `"#/components/schemas/${nameOf(name)}"`,
    ),
  )
}

export interface ApiDocument {
  paths?: object
  components?: { schemas?: object }
}

const reference = /"#\/components\/schemas\/(\w+)"/g
