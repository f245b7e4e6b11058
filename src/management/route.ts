import { z } from 'zod'
import type { OperatorPermission, Permission } from '../access/permissions.ts'
import type { ErrorCode } from '../errors.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { AuditEvent } from './audit-events.ts'
import type { OperatorCaller, WorkspaceCaller } from './authentication.ts'

/**
 * One route of the management API, declared once: from this come who may call it, the types of what its handler
 * gets, the validation of both directions, and its entry in the OpenAPI document.
 *
 * A handler returns the answer or throws an `ApiError`. Whatever changes something (every method but GET) runs in
 * one transaction, which ends with the handler: an error leaves nothing behind, and what the handler announced on
 * the change log takes effect after the commit, before the answer. A handler that waits for the world outside says
 * `transaction: 'none'`, and has but `queries`: others would wait for its transaction.
 */
export function defineRoute<
  Method extends RouteMethod,
  Path extends string,
  Needed extends Permission,
  Answer extends z.ZodType,
  Query extends z.ZodRawShape = Record<never, never>,
  Body extends StrictObject = EmptyObject,
  Result extends z.output<Answer> = z.output<Answer>,
  Held extends TransactionMode = Method extends 'GET' ? 'none' : 'one',
  Headers extends z.ZodRawShape = Record<never, never>,
>(
  definition: RouteDefinition<Method, Path, Needed, Query, Body, Answer, Result, Held, Headers> &
    AuditDeclaration<Method>,
): Route {
  const { method, path, permission, summary, tag, query, body, response, contentType, errors = [] } = definition
  type Input = RouteInput<Path, Needed, Query, Body, Held, Headers>
  return {
    method,
    transaction: definition.transaction ?? (method === 'GET' ? 'none' : 'one'),
    outlivesDatabase: definition.outlivesDatabase ?? false,
    before: definition.before ?? (async () => {}),
    path,
    permission,
    summary,
    tag,
    errors,
    contentType: contentType ?? 'application/json',
    params: pathParameters(path),
    query: z.strictObject(query ?? {}),
    headers: definition.headers ?? {},
    body,
    response,
    // The schemas above have parsed what arrives here, and authentication has judged by `permission`.
    serve: (input) => definition.handler(input as Input),
    // What arrives here is what `serve` was given, and gave.
    audit: (result, input) =>
      definition.audit === undefined ? [] : [definition.audit(result as Result, input as Input)].flat(),
  }
}

export interface RouteDefinition<
  Method extends RouteMethod,
  Path extends string,
  Needed extends Permission,
  Query extends z.ZodRawShape,
  Body extends StrictObject,
  Answer extends z.ZodType,
  Result extends z.output<Answer>,
  Held extends TransactionMode,
  Headers extends z.ZodRawShape,
> {
  method: Method
  /** As OpenAPI writes it, `/v1/gateway/groups/{group_id}`; each name in braces is a string in `params`. */
  path: Path
  /** What the caller must be allowed to do; `src/access/permissions.ts` says who is. */
  permission: Needed
  summary: string
  /** The heading under which the API docs show the route. */
  tag: string
  query?: Query
  /** Request headers of its own, by their names in lower case; the handler finds them in `received`. */
  headers?: Headers
  /** Fields that it does not know are refused (contract §4). */
  body?: Body
  /** What is not declared here does not leave, whatever the handler returns. */
  response: Answer
  /** Of the 200; JSON when left out. */
  contentType?: string
  /** Errors that it may answer with beyond those that follow from its path, body and permission. */
  errors?: readonly ErrorCode[]
  /** Left out: `one` for all but GET. */
  transaction?: Held
  /** What has to be awaited before the transaction begins, since others wait for that. */
  before?(): Promise<void>
  /** Whether those who have called before may call while the database is away; the handler then has to do without it. */
  outlivesDatabase?: boolean
  /** May return more than the answer declares, for `audit`. */
  handler(input: RouteInput<Path, Needed, Query, Body, Held, Headers>): Promise<Result>
  /** What the audit log tells of a write: one event or more, written in the same transaction (contract §15). */
  audit?(
    result: Result,
    input: RouteInput<Path, Needed, Query, Body, Held, Headers>,
  ): AuditEvent | readonly AuditEvent[]
}

/** Only reads may do without `audit`. */
export type AuditDeclaration<Method extends RouteMethod> = Method extends 'GET'
  ? { audit?: undefined }
  : { audit: object }

export type RouteInput<
  Path extends string,
  Needed extends Permission,
  Query extends z.ZodRawShape,
  Body extends StrictObject,
  Held extends TransactionMode,
  Headers extends z.ZodRawShape,
> = {
  params: PathParameters<Path>
  query: z.output<z.ZodObject<Query>>
  body: z.output<Body>
  received: Received<z.output<z.ZodObject<Headers>>>
} & (Needed extends OperatorPermission ? OperatorCaller : WorkspaceCaller) &
  (Held extends 'none' ? { queries: Queries } : { transaction: Transaction })

/** The body as it came, for a route whose caller signs it, and the headers that the route declares. */
export interface Received<Headers> {
  bytes: Buffer
  headers: Headers
}

/** A route whose types have done their work: what the listener serves and the OpenAPI document lists. */
export interface Route {
  method: RouteMethod
  transaction: TransactionMode
  outlivesDatabase: boolean
  before(): Promise<void>
  path: string
  permission: Permission
  summary: string
  tag: string
  errors: readonly ErrorCode[]
  contentType: string
  params: z.ZodType
  query: z.ZodType
  headers: z.ZodRawShape
  body: z.ZodType | undefined
  response: z.ZodType
  serve(input: object): Promise<unknown>
  audit(result: unknown, input: object): readonly AuditEvent[]
}

export type RouteMethod = 'GET' | 'POST' | 'PATCH' | 'DELETE'
export type TransactionMode = 'one' | 'none'

type PathParameters<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? Record<Name, string> & PathParameters<Rest>
  : unknown

type StrictObject = z.ZodObject<z.ZodRawShape, z.core.$strict>
type EmptyObject = z.ZodObject<Record<never, never>, z.core.$strict>

function pathParameters(path: string): z.ZodType {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => [name, z.string().max(128)])
  return z.strictObject(Object.fromEntries(names))
}
