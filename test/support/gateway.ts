import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { serve } from '../../src/serve.ts'
import { databaseSettings } from './database-backends.ts'

/** A whole installation in this process: real sockets, a real database, a data folder of its own. */
export interface Gateway extends AsyncDisposable {
  inference: string
  management: string
  workspaceKey: string
  operatorKey: string
  dataDir: string
  /** A management call that must succeed; resolves with the body. */
  manage<Body = Record<string, unknown>>(method: string, path: string, body?: object): Promise<Body>
  /** An endpoint for `slug` whose one target, or targets in turn, stand at `baseUrls`. */
  publish(slug: string, baseUrls: string | string[], targetModel?: string): Promise<void>
  /** A group that may call `slug`, and a key under it. */
  customer(options: CustomerOptions): Promise<Customer>
  /** An inference call with `key`. */
  infer(key: string, body: unknown, options?: InferOptions): Promise<Response>
}

export interface CustomerOptions {
  slug?: string
  limits?: { type: 'REQUEST' | 'TOKEN'; unit: 'SECOND' | 'MINUTE' | 'DAY'; threshold: number }[]
  parent?: string
  enforcement?: 'INDEPENDENT' | 'CASCADING'
  externalEntityId?: string
}

export interface Customer {
  groupId: string
  externalEntityId: string
  key: string
  prefix: string
}

export interface InferOptions {
  path?: string
  headers?: Record<string, string>
  signal?: AbortSignal
}

export const defaultSlug = 'acme/model'

export async function startGateway({
  settings = {},
  clock = systemClock,
  dataDir,
}: {
  settings?: Record<string, string>
  clock?: Clock
  dataDir?: string
} = {}): Promise<Gateway> {
  await using started = new AsyncDisposableStack()
  const folder = dataDir ?? (await mkdtemp(join(tmpdir(), 'tollgate-test-')))
  if (dataDir === undefined) started.defer(() => rm(folder, { recursive: true, force: true }))
  const workspaceKey = 'wk_test.0123456789abcdef0123456789abcdef'
  const operatorKey = 'op_test.0123456789abcdef0123456789abcdef'
  const config = readConfig({
    TOLLGATE_DATA_DIR: folder,
    TOLLGATE_INFERENCE_LISTEN: '127.0.0.1:0',
    TOLLGATE_MANAGEMENT_LISTEN: '127.0.0.1:0',
    TOLLGATE_BOOTSTRAP_KEY: workspaceKey,
    TOLLGATE_OPERATOR_KEY: operatorKey,
    TOLLGATE_LOG_LEVEL: 'silent',
    TOLLGATE_SHUTDOWN_TIMEOUT_MS: '2000',
    ...(await databaseSettings(folder)),
    ...settings,
  })
  const server = started.use(await serve(config, { clock }))
  const parts = started.move()
  let customers = 0

  const manage: Gateway['manage'] = async <Body>(method: string, path: string, body?: object) => {
    const response = await fetch(`${server.management}${path}`, {
      method,
      headers: {
        authorization: `Api-Key ${path.startsWith('/v1/operator') ? operatorKey : workspaceKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`)
    return (await response.json()) as Body
  }

  return {
    inference: server.inference,
    management: server.management,
    workspaceKey,
    operatorKey,
    dataDir: folder,
    manage,
    async publish(slug, baseUrls, targetModel) {
      const targets = [baseUrls].flat().map((base_url) => ({
        provider: 'OPENAI_COMPATIBLE',
        base_url,
        target_model: targetModel ?? slug,
      }))
      await manage('POST', '/v1/gateway/endpoints', { slug, targets })
    },
    async customer({ slug = defaultSlug, limits = [], parent, enforcement, externalEntityId }) {
      customers += 1
      const name = externalEntityId ?? `customer-${customers}`
      const group = await manage<{ id: string }>('POST', '/v1/gateway/groups', {
        metadata: { external_entity_id: name },
        models: [
          {
            slug,
            rate_limits: limits.filter(({ unit }) => unit !== 'DAY'),
            usage_limits: limits.filter(({ unit }) => unit === 'DAY'),
          },
        ],
        hierarchy: { parent_group_id: parent ?? null, limit_enforcement: enforcement ?? null },
      })
      const key = await manage<{ api_key: string; prefix: string }>(
        'POST',
        `/v1/gateway/groups/${group.id}/api_keys`,
        {},
      )
      return { groupId: group.id, externalEntityId: name, key: key.api_key, prefix: key.prefix }
    },
    infer(key, body, { path = '/v1/chat/completions', headers = {}, signal } = {}) {
      return fetch(`${server.inference}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...(signal === undefined ? {} : { signal }),
      })
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** A chat request of one short message. */
export function chat(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return { model: defaultSlug, messages: [{ role: 'user', content: 'Hello' }], ...overrides }
}
