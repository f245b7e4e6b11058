import type { FastifyInstance, FastifyRequest } from 'fastify'
import { serializerCompiler } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { KeyUse } from '../access/key-use.ts'
import type { Clock } from '../clock.ts'
import { ApiError, type ErrorDetail, invalid } from '../errors.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Database, Queries, Transaction } from '../storage/database.ts'
import { lockWorkspace } from '../storage/locks.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import { auditClient, recordAudit } from './audit.ts'
import { authenticate, type Caller } from './authentication.ts'
import { schemaError } from './error-answers.ts'
import { answerOnce, type IdempotencyParts } from './idempotency.ts'
import { routeSchema } from './openapi.ts'
import { pageWriter } from './page-text.ts'
import { receivedBytes } from './received-bytes.ts'
import { RememberedCallers } from './remembered-callers.ts'
import { RequestRate } from './request-rate.ts'
import type { Route } from './route.ts'

export interface MountParts {
  database: Database
  changeLog: ChangeLog
  keyUse: Pick<KeyUse, 'noted'>
  clock: Clock
  secretBox: SecretBox
  operatorKeyHash: string
}

/**
 * Serves `routes`: knows the caller before a byte of the body is read, parses what came by the route's schemas, runs
 * the handler, in a transaction where it may write, and lets out what the response schema declares.
 *
 * A body may come long after its head. So the caller is judged again once it is here: a key that was revoked meanwhile,
 * or may do less, changes nothing (contract §3).
 */
export function mountRoutes(
  server: FastifyInstance,
  routes: readonly Route[],
  { database, changeLog, keyUse, clock, secretBox, operatorKeyHash }: MountParts,
): void {
  server.setValidatorCompiler<z.ZodType>(({ schema }) => (given) => {
    const parsed = schema.safeParse(given ?? {})
    if (!parsed.success) return { error: schemaError(parsed.error) }
    const fault = faultyText(parsed.data)
    return fault === null ? { value: parsed.data } : { error: invalid(fault.path, fault.message) }
  })
  server.setSerializerCompiler(serializerCompiler)
  const rate = new RequestRate(clock)
  const remembered = new RememberedCallers(changeLog)
  const callers = new WeakMap<FastifyRequest, Caller>()

  for (const route of routes) {
    const writePage = pageWriter(route.response)
    const judge = ({ headers: { authorization } }: FastifyRequest, queries: Queries) =>
      authenticate({ authorization, permission: route.permission, path: route.path }, { queries, operatorKeyHash })
    server.route({
      method: route.method,
      url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
      schema: routeSchema(route),
      async onRequest(request) {
        const presented = { authorization: request.headers.authorization, path: route.path }
        const known = () => judge(request, database.queries)
        const caller = await (route.outlivesDatabase ? remembered.recalling(presented, known) : known())
        if (caller.actor.kind === 'workspace-key') keyUse.noted('workspace', caller.actor.prefix, clock.now())
        const retryAfterMs = rate.retryAfterMs(nameOf(caller), `${route.method} ${route.path}`)
        if (retryAfterMs > 0) throw new ApiError('RATE_LIMITED', { retryAfterMs })
        callers.set(request, caller)
      },
      async handler(request, reply) {
        if (route.body === undefined) refuseBody(request.body)
        const caller = callers.get(request)
        if (caller === undefined) throw new Error('A request came this far without authentication.')
        const asked: Asked = { request, caller, judgeAgain: (queries) => judge(request, queries) }
        await route.before()
        const answer =
          route.transaction === 'none'
            ? await serveOutside(route, asked, { database, clock })
            : await database.transaction((transaction) => write(route, asked, { transaction, clock, secretBox }))
        return reply.type(route.contentType).send(writePage === null ? answer : await writePage(answer))
      },
    })
  }
}

/** A request whose body is here, and who called when its head came. */
interface Asked {
  request: FastifyRequest
  caller: Caller
  /** Who calls as of now. Throws as `authenticate` does. */
  judgeAgain: (queries: Queries) => Promise<Caller>
}

/** The first text that would not be stored as it came: where it stands, and why; or null. */
function faultyText(value: unknown): ErrorDetail | null {
  if (typeof value === 'string') {
    const message = faultOf(value)
    return message === null ? null : { path: '', message }
  }
  if (typeof value !== 'object' || value === null) return null
  for (const [name, member] of Object.entries(value)) {
    const fault = faultyText(member)
    if (fault !== null) return { ...fault, path: fault.path === '' ? name : `${name}.${fault.path}` }
  }
  return null
}

function faultOf(text: string): string | null {
  // PostgreSQL does not take it.
  if (text.includes('\0')) return 'Must not contain the character U+0000.'
  // Written as UTF-8, it would turn into another text: half a pair becomes U+FFFD.
  if (!text.isWellFormed()) return 'Must be well-formed Unicode; it contains half of a surrogate pair.'
  return null
}

/** Serves a read, or a request that waits for the world outside; what that did is in the audit log before its answer. */
async function serveOutside(
  route: Route,
  { request, caller: callerOfHead, judgeAgain }: Asked,
  { database, clock }: { database: Database; clock: Clock },
): Promise<unknown> {
  const { params, query, body, headers } = request
  const caller = body === undefined ? callerOfHead : await judgeAgain(database.queries)
  const received = { bytes: receivedBytes(request), headers }
  const input = { params, query, body, received, ...caller, queries: database.queries }
  const result = await route.serve(input)
  const events = route.audit(result, input)
  if (events.length > 0) {
    await database.transaction((transaction) =>
      recordAudit(transaction, { events, caller, client: auditClient(headers), clock }),
    )
  }
  return result
}

/** Carries out a request that may change something, once for its `Idempotency-Key`, and records it in the audit log. */
async function write(
  route: Route,
  asked: Asked,
  { transaction, clock, secretBox }: IdempotencyParts,
): Promise<unknown> {
  const { request } = asked
  const { params, query, body, headers } = request
  const received = { bytes: receivedBytes(request), headers }
  const caller = await locked(asked, transaction)
  const input = { params, query, body, received, ...caller, transaction }
  const serve = async () => {
    const result = await route.serve(input)
    await recordAudit(transaction, { events: route.audit(result, input), caller, client: auditClient(headers), clock })
    return result
  }
  const key = headers['idempotency-key']
  if (route.method !== 'POST' || typeof key !== 'string') return serve()
  return answerOnce({ key, caller: nameOf(caller), path: request.url, body }, { transaction, clock, secretBox }, serve)
}

/** What tells callers apart: the public part of the key that they call with. */
function nameOf({ actor }: Caller): string {
  return actor.kind === 'operator' ? 'operator' : actor.prefix
}

function refuseBody(body: unknown): void {
  const parsed = noFields.safeParse(body ?? {})
  if (!parsed.success) throw schemaError(parsed.error)
}

const noFields = z.strictObject({})

/** The caller as it is now; with its workspace locked, it stays so until the transaction ends. */
async function locked({ caller, judgeAgain }: Asked, transaction: Transaction): Promise<Caller> {
  if ('workspace' in caller) await lockWorkspace(caller.workspace.id, transaction)
  return judgeAgain(transaction.queries)
}
