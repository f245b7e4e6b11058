import { randomUUID } from 'node:crypto'
import swagger from '@fastify/swagger'
import apiReference, { type FastifyApiReferenceOptions } from '@scalar/fastify-api-reference'
import Fastify, { type FastifyInstance } from 'fastify'
import { keyHash } from '../access/api-key.ts'
import type { KeyUse } from '../access/key-use.ts'
import type { Clock } from '../clock.ts'
import { notFound } from '../errors.ts'
import type { CounterStore } from '../limits/counter-store.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Database } from '../storage/database.ts'
import { auditLogRoutes } from './audit-logs.ts'
import { mountDomainCheck } from './domain-check.ts'
import { type DomainParts, domainRoutes } from './domains.ts'
import { endpointRoutes } from './endpoints.ts'
import { answerMalformedHttp, errorAnswer, toApiError } from './error-answers.ts'
import { type EventParts, eventRoutes } from './events.ts'
import { federatedKeyRoutes } from './federated-keys.ts'
import { federatedUserKeyRoutes } from './federated-user-keys.ts'
import { federatedUserRoutes } from './federated-users.ts'
import { groupUsageRoutes } from './group-usage.ts'
import { groupRoutes } from './groups.ts'
import { type MetricsParts, metricsRoutes } from './metrics-page.ts'
import { modelRoutes } from './models.ts'
import { mountRoutes } from './mount-routes.ts'
import { openApiOptions } from './openapi.ts'
import { mountPages } from './pages.ts'
import { peopleRoutes } from './people.ts'
import { acceptJson } from './received-bytes.ts'
import { registerKeyRoutes } from './register-key.ts'
import type { Route } from './route.ts'
import { secretRoutes } from './secrets.ts'
import { teamRoutes } from './teams.ts'
import { webhookDeliveryRoutes } from './webhook-deliveries.ts'
import { webhookRedeliveryRoutes } from './webhook-redelivery.ts'
import { type WebhookTestParts, webhookTestRoutes } from './webhook-test.ts'
import { type WebhookParts, webhookRoutes } from './webhooks.ts'
import { workspaceKeyRoutes } from './workspace-keys.ts'
import { workspaceRoutes } from './workspaces.ts'

export interface ManagementParts extends DomainParts, EventParts, MetricsParts, WebhookParts, WebhookTestParts {
  database: Database
  changeLog: ChangeLog
  keyUse: Pick<KeyUse, 'noted'>
  counters: Pick<CounterStore, 'dayUsage'>
  log: Log
  metrics: Metrics
  operatorKey: string
  /** Whether this node can serve: what `/health/ready` answers. */
  ready: () => boolean
  /** Whether the database answers. */
  databaseReachable: () => boolean
  /** Whether billing events can be written. */
  takesEvents: () => Promise<boolean>
  /** Longest time a client may take to send its whole request. */
  requestTimeoutMs?: number
}

const bodyBytesMax = 1024 * 1024

/**
 * The management listener (contract §2, §4): the REST API, its OpenAPI document at `/v1/spec`, readable docs at
 * `/docs`, `/metrics` and `/health/*`. Ready for `listen`; `closeManagementListener` is its end.
 */
export async function openManagementListener(parts: ManagementParts): Promise<FastifyInstance> {
  const { log, operatorKey, requestTimeoutMs = 30_000 } = parts
  const server = Fastify({
    bodyLimit: bodyBytesMax,
    requestTimeout: requestTimeoutMs,
    // Node counts a body's time from the longer of the two: the headers' must not be that.
    http: {
      headersTimeout: Math.min(requestTimeoutMs, 10_000),
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 5_000),
    },
    genReqId: () => randomUUID(),
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 500 },
    clientErrorHandler: (error, socket) => answerMalformedHttp(error, socket, randomUUID()),
    // Comes before any hook, and only for a path that cannot be decoded.
    frameworkErrors: (error, request, reply) => {
      reply.raw
        .writeHead(400, { 'content-type': 'application/json', 'x-request-id': request.id })
        .end(JSON.stringify(errorAnswer(toApiError(error))))
    },
  })

  server.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id)
  })
  server.setErrorHandler((error: Error, request, reply) => {
    const refusal = toApiError(error)
    if (refusal.code === 'INTERNAL') log.error({ requestId: request.id, err: error }, 'management request failed')
    if (refusal.code === 'UNAUTHORIZED') reply.header('www-authenticate', 'Bearer')
    if (refusal.retryAfterMs !== undefined) {
      reply.header('retry-after', String(Math.max(1, Math.ceil(refusal.retryAfterMs / 1000))))
    }
    return reply.code(refusal.status).type('application/json').send(errorAnswer(refusal))
  })
  server.setNotFoundHandler(() => {
    throw notFound('route')
  })
  acceptJson(server)

  await server.register(swagger, openApiOptions)
  await server.register((scope, _options, done) => {
    mountRoutes(scope, routes(parts), { ...parts, operatorKeyHash: keyHash(operatorKey) })
    done()
  })
  mountPages(server, parts)
  mountDomainCheck(server, parts)
  await server.register(apiReference, apiReferenceOptions)
  await server.ready()
  return server
}

/** Stops accepting and waits for the requests in flight; what is left after `timeoutMs` is cut. */
export async function closeManagementListener(
  listener: FastifyInstance,
  { clock, timeoutMs }: { clock: Clock; timeoutMs: number },
): Promise<void> {
  // Once it is closing, Node no longer looks after the time that a client takes for its request.
  const timer = clock.after(timeoutMs, () => listener.server.closeAllConnections())
  await listener.close()
  timer.cancel()
}

/** The docs come whole from this listener: whatever the page would fetch from elsewhere, the browser refuses. */
const apiReferenceOptions: FastifyApiReferenceOptions = {
  routePrefix: '/docs',
  configuration: {
    url: '../v1/spec',
    authentication: { preferredSecurityScheme: 'key' },
    withDefaultFonts: false,
    telemetry: false,
    hideClientButton: true,
    showDeveloperTools: 'never',
    agent: { disabled: true },
    mcp: { disabled: true },
  },
  hooks: {
    onRequest(_request, reply, done) {
      reply.header('content-security-policy', "default-src 'self' 'unsafe-inline' data: blob:")
      done()
    },
  },
}

function routes(parts: ManagementParts): Route[] {
  return [
    ...workspaceRoutes(parts),
    ...modelRoutes(parts),
    ...secretRoutes(parts),
    ...endpointRoutes(parts),
    ...groupRoutes(parts),
    ...groupUsageRoutes(parts),
    ...federatedKeyRoutes(parts),
    ...registerKeyRoutes(parts),
    ...federatedUserRoutes(parts),
    ...federatedUserKeyRoutes(parts),
    ...domainRoutes(parts),
    ...workspaceKeyRoutes(parts),
    ...teamRoutes(parts),
    ...peopleRoutes(parts),
    ...eventRoutes(parts),
    ...webhookRoutes(parts),
    ...webhookTestRoutes(parts),
    ...webhookDeliveryRoutes(),
    ...webhookRedeliveryRoutes(parts),
    ...auditLogRoutes(),
    ...metricsRoutes(parts),
  ]
}
