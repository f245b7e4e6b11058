import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mintKey } from '../../src/access/api-key.ts'
import { KeyUse } from '../../src/access/key-use.ts'
import type { WorkspaceKeyType } from '../../src/access/permissions.ts'
import { type Clock, systemClock } from '../../src/clock.ts'
import { startDispatcher } from '../../src/delivery/dispatcher.ts'
import { sendTestEvent } from '../../src/delivery/test-event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import type { CounterStore } from '../../src/limits/counter-store.ts'
import { openMemoryCounters } from '../../src/limits/memory-counters.ts'
import { openLog } from '../../src/log.ts'
import { openManagementListener } from '../../src/management/listener.ts'
import { findAccount } from '../../src/management/person-row.ts'
import { insertWorkspaceKey } from '../../src/management/workspace-key-row.ts'
import { openMetrics } from '../../src/metrics.ts'
import { openPostbox } from '../../src/outbound.ts'
import { type Change, ChangeLog } from '../../src/storage/change-log.ts'
import type { Database } from '../../src/storage/database.ts'
import { SecretBox } from '../../src/storage/secret-box.ts'
import { AnswerSchemas, type ApiDocument } from './answer-schemas.ts'
import { openTestDatabase } from './database-backends.ts'

/** The management listener alone, over a database of its own; every answer is checked against `/v1/spec`. */
export interface Management extends AsyncDisposable {
  url: string
  database: Database
  dataDir: string
  schemas: AnswerSchemas
  /** What was announced as stale, in order. */
  changes: Change[]
  counters: CounterStore
  operator: ManagementClient
  /** Calls with `key`, or with none. */
  caller(key: string | null): ManagementClient
  /** A new workspace, with its full-access key. */
  lab(fields?: Record<string, unknown>): Promise<Lab>
  /** Calls with a new key of `type` in `workspaceId`. */
  keyOfType(type: WorkspaceKeyType, workspaceId: string): Promise<ManagementClient>
}

export interface Lab extends ManagementClient {
  workspaceId: string
  key: string
  /** The prefix of its slugs, unless other fields were given. */
  orgPrefix: string
}

export interface ManagementOptions {
  clock?: Clock
  requestTimeoutMs?: number
  ready?: () => boolean
}

export async function startManagement({
  clock = systemClock,
  requestTimeoutMs = 30_000,
  ready = () => true,
}: ManagementOptions = {}): Promise<Management> {
  await using started = new AsyncDisposableStack()
  const dataDir = await mkdtemp(join(tmpdir(), 'tollgate-management-'))
  started.defer(() => rm(dataDir, { recursive: true, force: true }))
  const database = started.use(await openTestDatabase(dataDir))
  const changeLog = new ChangeLog()
  const changes: Change[] = []
  changeLog.subscribe((change) => {
    changes.push(change)
  })
  const counters = openMemoryCounters({ clock })
  const secretBox = new SecretBox(Buffer.alloc(32, 7))
  const log = openLog({ level: 'silent' })
  const metrics = openMetrics()
  const postbox = started.use(openPostbox({ clock }))
  const dispatcher = started.use(await startDispatcher({ database, postbox, secretBox, clock, log, metrics }))
  const operatorKey = 'op_test.0123456789abcdef0123456789abcdef'
  const keyUse = started.use(new KeyUse({ database, clock, log }))
  const listener = await openManagementListener({
    database,
    changeLog,
    keyUse,
    counters,
    clock,
    secretBox,
    log,
    metrics,
    metricsText: () => metrics.registry.metrics(),
    ledger: openLedger({ database }),
    flush: async () => {},
    dispatcher,
    sendTestEvent: (webhook) => sendTestEvent(webhook, { postbox, secretBox, clock }),
    operatorKey,
    reservedHostnames: [],
    ready,
    databaseReachable: () => true,
    takesEvents: async () => true,
    requestTimeoutMs,
  })
  started.defer(() => listener.close())
  const url = await listener.listen({ host: '127.0.0.1', port: 0 })
  const document = (await (await fetch(`${url}/v1/spec`)).json()) as ApiDocument
  const schemas = new AnswerSchemas(document)
  const parts = started.move()
  const caller = (key: string | null) => new ManagementClient({ url, key, schemas })
  const operator = caller(operatorKey)
  let labs = 0

  return {
    url,
    database,
    dataDir,
    schemas,
    changes,
    counters,
    operator,
    caller,
    async lab(fields = {}) {
      labs += 1
      const orgPrefix = `org-${labs}`
      const { id, api_key } = await operator.ok<{ id: string; api_key: string }>('POST /v1/operator/workspaces', {
        name: `lab ${labs}`,
        org_prefixes: [orgPrefix],
        ...fields,
      })
      return Object.assign(caller(api_key), { workspaceId: id, key: api_key, orgPrefix })
    },
    async keyOfType(type, workspaceId) {
      const key = mintKey('wk_')
      await database.transaction(async (transaction) => {
        const account = await findAccount(workspaceId, transaction.queries)
        const person_id = type === 'PERSONAL' ? account.id : null
        await insertWorkspaceKey({ workspace_id: workspaceId, key, type, person_id }, { transaction, clock, changeLog })
      })
      return caller(key.key)
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** Every route of the published document, as `call` takes it, with ids that nobody has. */
export function operations({ schemas }: Management): { request: string; method: string; path: string }[] {
  return Object.entries(schemas.document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((name) => {
      const method = name.toUpperCase()
      return { request: `${method} ${path.replaceAll(/\{\w+\}/g, 'nowhere')}`, method, path }
    }),
  )
}

export interface Answer<Body = unknown> {
  status: number
  headers: Headers
  body: Body
}

export interface ErrorBody {
  code: string
  message: string
  details?: { path: string; message: string }[]
}

export interface Page<Item> {
  items: Item[]
  pagination: { has_more: boolean; cursor: string | null }
}

/** A caller of the management API: `call('GET /v1/models')`. */
export class ManagementClient {
  readonly #url: string
  readonly #key: string | null
  readonly #schemas: AnswerSchemas

  constructor({ url, key, schemas }: { url: string; key: string | null; schemas: AnswerSchemas }) {
    this.#url = url
    this.#key = key
    this.#schemas = schemas
  }

  async call<Body>(request: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer<Body>> {
    const [method = '', path = ''] = request.split(' ')
    const response = await fetch(this.#url + path, {
      method,
      headers: {
        ...(this.#key === null ? {} : { authorization: `Api-Key ${this.#key}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
    })
    const contentType = response.headers.get('content-type') ?? ''
    const text = await response.text()
    const answer = contentType.startsWith('application/json') ? JSON.parse(text) : text
    assert.match(response.headers.get('x-request-id') ?? '', /^[\w-]{8,}$/, `${request} has no request id`)
    this.#schemas.check({ method, path, status: response.status, contentType, body: answer })
    return { status: response.status, headers: response.headers, body: answer }
  }

  /** The body of a call that must succeed. */
  async ok<Body>(request: string, body?: unknown): Promise<Body> {
    const answer = await this.call<Body>(request, body)
    assert.equal(answer.status, 200, `${request} answered ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  /** The error of a call that must be refused with `status`. */
  async refused(status: number, request: string, body?: unknown): Promise<ErrorBody> {
    const answer = await this.call<ErrorBody>(request, body)
    assert.equal(answer.status, status, `${request} answered ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  /** Fails unless the call is a 400 that names `path` as the first thing at fault. */
  async invalid(path: string, request: string, body?: unknown): Promise<ErrorBody> {
    const error = await this.refused(400, request, body)
    assert.equal(error.code, 'VALIDATION_ERROR')
    assert.equal(error.details?.[0]?.path, path, JSON.stringify(error))
    return error
  }
}
