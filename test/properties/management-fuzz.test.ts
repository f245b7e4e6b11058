import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { sql } from 'kysely'
import { publicPrefix } from '../../src/access/api-key.ts'
import type { ApiDocument, Operation } from '../support/answer-schemas.ts'
import { engine, openTestDatabase } from '../support/database-backends.ts'
import { HurriedClock } from '../support/hurried-clock.ts'
import {
  type Answer,
  type Management,
  type ManagementClient,
  operations,
  startManagement,
} from '../support/management-client.ts'
import { anIdOf, outlandish, spoilt, valuesOf, withIds } from '../support/schema-values.ts'

/** PostgreSQL takes longer, and what is asked of it is the same. */
const requestCount = engine === 'sqlite' ? 10_000 : 2_000

/**
 * Requests as they may come, to every route, most of them nearly right. The client checks each answer against the
 * published document; a second connection to the database sees what was committed.
 */
test('whatever is asked is answered as documented; what is refused changes nothing, what is done is audited', async (t) => {
  await using management = await startManagement({ clock: new HurriedClock() })
  await using observer = await openObserver(management)
  const callers = await openCallers(management)
  const ids = new Map<string, string[]>()
  const answers: Record<number, number> = {}
  const succeeded = new Set<string>()

  await fc.assert(
    fc.asyncProperty(requestsTo(management), async ({ method, template, path, query, body, headers, caller }) => {
      const request = `${method} ${withIds(path, ids)}${withIds(query, ids)}`
      const before = await observer.look()
      const answer: Answer<Made> = await callers[caller].call(request, body && withIds(body, ids), headers)
      const after = await observer.look()

      const { status } = answer
      answers[status] = (answers[status] ?? 0) + 1
      assert.ok(status < 500, `${request} answered ${status}`)
      if (status !== 200) assert.equal(after.version, before.version, `${request} was refused and changed something`)
      if (status !== 200 || method === 'GET') return
      succeeded.add(`${method} ${template}`)
      learn(ids, kindMadeBy(template, management.schemas.document), answer.body)
      const isRepeated = 'idempotency-key' in headers
      assert.ok(isRepeated || after.audited > before.audited, `${request} is not in the audit log`)
    }),
    { numRuns: requestCount, endOnFailure: true },
  )

  t.diagnostic(`${requestCount} requests, answers by status: ${JSON.stringify(answers)}`)
  const writes = operations(management).flatMap(({ method, path }) => (method === 'GET' ? [] : [`${method} ${path}`]))
  const untouched = writes.filter((write) => !succeeded.has(write))
  t.diagnostic(`writes without a success: ${untouched.join(', ') || 'none'}`)
  assert.ok(untouched.length < writes.length / 5, 'too few requests do what they ask for')
})

interface FuzzedRequest {
  method: string
  /** The path as the document writes it. */
  template: string
  path: string
  query: string
  body: string | undefined
  headers: Record<string, string>
  caller: CallerKind
}

function requestsTo(management: Management): fc.Arbitrary<FuzzedRequest> {
  const { document } = management.schemas
  return fc.oneof(
    ...operations(management).map(({ method, path: template }) => {
      const operation = document.paths[template]?.[method.toLowerCase()] ?? { responses: {} }
      return fc.record({
        method: fc.constant(method),
        template: fc.constant(template),
        path: pathsOf(template),
        query: queriesOf(operation, document),
        body: method === 'GET' ? fc.constant(undefined) : bodiesOf(operation, document),
        headers: fc.oneof({ weight: 15, arbitrary: fc.constant({}) }, idempotency),
        caller: template.startsWith('/v1/operator/') ? operators : labCallers,
      })
    }),
  )
}

function pathsOf(template: string): fc.Arbitrary<string> {
  const names = [...template.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name)
  const segments = names.map((name) =>
    fc.oneof({ weight: 9, arbitrary: anIdOf(name) }, anIdOf('any'), outlandish.map(segment)),
  )
  return fc.tuple(...segments).map((given) => {
    const left = [...given]
    return template.replaceAll(/\{\w+\}/g, () => left.shift() ?? '')
  })
}

function queriesOf({ parameters = [] }: Operation, document: ApiDocument): fc.Arbitrary<string> {
  const declared = parameters.flatMap(({ in: place, name, schema }) => {
    if (place !== 'query') return []
    const values = fc.oneof({ weight: 4, arbitrary: valuesOf(schema, document, name) }, outlandish)
    return fc.option(
      values.map((value) => `${name}=${escaped(value)}`),
      { freq: 2, nil: '' },
    )
  })
  const unknown = fc.oneof({ weight: 30, arbitrary: fc.constant('') }, fc.constant('no_such=1'))
  return fc.tuple(...declared, unknown).map((parts) => {
    const given = parts.filter((part) => part !== '')
    return given.length === 0 ? '' : `?${given.join('&')}`
  })
}

function bodiesOf({ requestBody }: Operation, document: ApiDocument): fc.Arbitrary<string | undefined> {
  const schema = requestBody?.content['application/json']?.schema
  if (schema === undefined) return fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, notAnObject)
  const values = valuesOf(schema, document)
  const json = (value: unknown) => JSON.stringify(value)
  return fc.oneof(
    { weight: 8, arbitrary: values.map(json) },
    { weight: 3, arbitrary: spoilt(values).map(json) },
    notAnObject,
  )
}

const notAnObject = fc.constantFrom('{', '', 'null', '"text"', '[]', '1', '{"a":1}{"a":1}', '\u0000', '['.repeat(5_000))

const idempotency = fc
  .constantFrom('key-1', 'key-2', 'key-3', 'é', '', 'x'.repeat(300))
  .map((key) => ({ 'idempotency-key': key }))

/** One segment of a path; a client would resolve dots before it asks. */
function segment(value: unknown): string {
  return escaped(value).replace(/^(\.*)$/, '_$1')
}

function escaped(value: unknown): string {
  return encodeURIComponent(String(typeof value === 'object' ? JSON.stringify(value) : value).toWellFormed())
}

const callerKinds = ['full', 'owner', 'team', 'keeper', 'member', 'invoke', 'nobody', 'operator'] as const
type CallerKind = (typeof callerKinds)[number]
const labCallers = fc.oneof({ weight: 20, arbitrary: fc.constant('full' as const) }, fc.constantFrom(...callerKinds))
const operators = fc.oneof({ weight: 20, arbitrary: fc.constant('operator' as const) }, fc.constantFrom(...callerKinds))

/** Nothing that these stand on is among the ids that requests are about. */
async function openCallers(management: Management): Promise<Record<CallerKind, ManagementClient>> {
  const lab = await management.lab()
  await management.lab()
  const { id: team } = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'of a caller' })
  const { id: member } = await lab.ok<{ id: string }>('POST /v1/users', { email: 'member@example.org' })
  const holding = async (body: object, path = '/v1/api_keys') =>
    management.caller((await lab.ok<{ api_key: string }>(`POST ${path}`, body)).api_key)
  return {
    full: lab,
    owner: await holding({ type: 'PERSONAL' }),
    team: await holding({ type: 'WORKSPACE_MANAGE_ALL' }, `/v1/teams/${team}/api_keys`),
    keeper: await holding({ type: 'WORKSPACE_MANAGE_API_KEYS' }),
    member: await holding({ type: 'PERSONAL', user_id: member }),
    invoke: await holding({ type: 'WORKSPACE_INVOKE' }),
    nobody: management.caller(null),
    operator: management.operator,
  }
}

interface Made {
  id?: string
  prefix?: string
  name?: string | null
  api_key?: string
}

/** The path parameter that stands for what a POST to this collection makes. */
function kindMadeBy(template: string, { paths }: ApiDocument): string | undefined {
  return (
    Object.keys(paths)
      .map(
        (path) => path.slice(0, template.length) === template && /^\/\{(\w+)\}/.exec(path.slice(template.length))?.[1],
      )
      .find((name) => typeof name === 'string' && name !== '') || undefined
  )
}

const idsMax = 20

/** Later requests may be about what this one made. */
function learn(ids: Map<string, string[]>, kind: string | undefined, { id, prefix, name, api_key }: Made): void {
  if (kind === undefined) return
  const add = (kindOfId: string, found: string | null | undefined) => {
    if (found != null) ids.set(kindOfId, [...(ids.get(kindOfId) ?? []), found].slice(-idsMax))
  }
  if (kind === 'secret_name') add('secret_id', id)
  add(kind, kind === 'secret_name' ? name : (prefix ?? id ?? (api_key && publicPrefix(api_key))))
}

/** Sees the database as it is committed, over a connection of its own. */
interface Observer extends AsyncDisposable {
  /** `version` changes with every commit of another connection; `audited` grows with every entry of the audit log. */
  look(): Promise<{ version: string; audited: number }>
}

async function openObserver({ dataDir }: Management): Promise<Observer> {
  const database = await openTestDatabase(dataDir)
  const { queries } = database
  const version = versionQueries[engine]
  return {
    async look() {
      const { rows } = await version.execute(queries)
      const { audited } = await queries
        .selectFrom('audit_logs')
        .select((eb) => eb.fn.countAll<number>().as('audited'))
        .executeTakeFirstOrThrow()
      return { version: JSON.stringify(rows), audited }
    },
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  }
}

const tables = [
  ...['workspaces', 'teams', 'people', 'workspace_keys', 'models', 'secrets', 'endpoints', 'groups', 'federated_keys'],
  ...['domains', 'webhooks', 'webhook_deliveries', 'audit_logs', 'idempotent_answers', 'changes'],
]

/** A write leaves a newer `xmin` or fewer rows; counters of transactions are the whole server's. */
const versionQueries = {
  sqlite: sql`pragma data_version`,
  postgres: sql.join(
    tables.map((table) => sql`select count(*), max(xmin::text::bigint) from ${sql.table(table)}`),
    sql` union all `,
  ),
}
