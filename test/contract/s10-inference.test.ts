import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { publicPrefix } from '../../src/access/api-key.ts'
import { chat, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { recordedEvents } from '../support/recorded-events.ts'
import { until } from '../support/until.ts'

/** Contract §10: what workspace keys may call, on both listeners. */
describe('a workspace key', () => {
  let production: MockUpstream
  let staging: MockUpstream
  let gateway: Gateway
  let small: string
  let large: string

  before(async () => {
    production = await startMockUpstream({ script: { promptTokens: 5, completionTokens: 2 } })
    staging = await startMockUpstream()
    gateway = await startGateway()
    small = await register('small')
    large = await register('large')
    await serve('acme/small', [{ model_id: small }])
    await serve('acme/small-staging', [{ model_id: small, environment_name: 'staging' }])
    await serve('acme/large', [{ model_id: large }])
    await serve('acme/both', [{ model_id: large }, { model_id: small, environment_name: 'staging' }])
    await gateway.publish('acme/hosted', production.baseUrl)
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await production[Symbol.asyncDispose]()
    await staging[Symbol.asyncDispose]()
  })

  const all = ['acme/small', 'acme/small-staging', 'acme/large', 'acme/both', 'acme/hosted']

  test('calls every endpoint of its workspace, without a group and without limits', async () => {
    for (const body of [{ type: 'WORKSPACE_MANAGE_ALL' }, { type: 'WORKSPACE_INVOKE' }, { type: 'PERSONAL' }]) {
      const key = await mint(body)
      assert.deepEqual(await modelsOf(key), all)
      for (const model of all) {
        const response = await gateway.infer(key, chat({ model }))
        assert.equal(response.status, 200, `${body.type} ${model}`)
        assert.equal(((await response.json()) as { model: string }).model, model)
        assert.equal(response.headers.get('x-ratelimit-limit-requests'), null)
      }
    }
  })

  test('that may not call models is a 403 there, before the body is looked at, and not a 401', async () => {
    for (const type of ['WORKSPACE_EXPORT_METRICS', 'WORKSPACE_MANAGE_API_KEYS']) {
      const key = await mint({ type })
      const response = await gateway.infer(key, 'not json')
      assert.equal(response.status, 403, type)
      const { error } = (await response.json()) as { error: Record<string, unknown> }
      assert.equal(error['code'], 'insufficient_permissions')
      assert.equal((await list(key)).status, 403)
    }
  })

  test('that is narrowed to models or environments sees and calls what these serve, and no more', async () => {
    const narrowed: [object, string[]][] = [
      [{ type: 'WORKSPACE_INVOKE', model_ids: [small] }, ['acme/small', 'acme/small-staging', 'acme/both']],
      [{ type: 'WORKSPACE_INVOKE', environments: ['staging'] }, ['acme/small-staging', 'acme/both']],
      [{ type: 'WORKSPACE_INVOKE', environments: ['production'] }, ['acme/small', 'acme/large', 'acme/both']],
      [{ type: 'WORKSPACE_MANAGE_ALL', environments: ['staging'] }, ['acme/small-staging', 'acme/both']],
      [{ type: 'WORKSPACE_INVOKE', model_ids: [small], environments: ['production'] }, ['acme/small']],
      [{ type: 'WORKSPACE_INVOKE', model_ids: [large], environments: ['staging'] }, []],
      [{ type: 'WORKSPACE_INVOKE', environments: ['nowhere'] }, []],
    ]
    for (const [body, slugs] of narrowed) {
      const key = await mint(body)
      assert.deepEqual(await modelsOf(key), slugs, JSON.stringify(body))
      for (const model of all) {
        const { status } = await gateway.infer(key, chat({ model }))
        assert.equal(status, slugs.includes(model) ? 200 : 404, `${JSON.stringify(body)} ${model}`)
      }
    }
  })

  test('that is narrowed is served by a target within its scope, whatever stands before it', async () => {
    const key = await mint({ type: 'WORKSPACE_INVOKE', environments: ['staging'] })
    const before = { production: production.requests.length, staging: staging.requests.length }
    await gateway.infer(key, chat({ model: 'acme/both' }))
    assert.equal(production.requests.length, before.production)
    assert.equal(staging.requests.length, before.staging + 1)
  })

  test('is recorded without a customer, and outside the sequence of what is billed', async () => {
    const key = await mint({ type: 'WORKSPACE_INVOKE' })
    const response = await gateway.infer(key, chat({ model: 'acme/small', metadata: { job: 'nightly' } }))
    await response.text()
    const [event, ...others] = await recordedEvents(gateway, publicPrefix(key))
    assert.deepEqual(others, [])
    assert.equal(event?.requestId, response.headers.get('x-request-id'))
    assert.deepEqual(event?.requestMetadata, { job: 'nightly' })
    assert.equal(event?.externalEntityId, null)
    assert.equal(event?.sequence, null)
    assert.equal(event?.tokens.inputTokens, 5)
  })

  test('of another workspace finds none of these models', async () => {
    const { api_key } = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', { name: 'other' })
    assert.deepEqual(await modelsOf(api_key), [])
    assert.equal((await gateway.infer(api_key, chat({ model: 'acme/small' }))).status, 404)
  })

  test('is refused at once when it is revoked, or its person is removed', async () => {
    const key = await mint({ type: 'WORKSPACE_INVOKE' })
    const person = await gateway.manage<{ id: string }>('POST', '/v1/users', { email: 'ada@example.com' })
    const personal = await mint({ type: 'PERSONAL', user_id: person.id })
    for (const one of [key, personal]) assert.equal((await list(one)).status, 200)
    await gateway.manage('DELETE', `/v1/api_keys/${publicPrefix(key)}`)
    await gateway.manage('DELETE', `/v1/users/${person.id}`)
    const unknown = await (await list(`${publicPrefix(key)}.nobody-has-this-secret`)).text()
    for (const one of [key, personal]) {
      const answer = await list(one)
      assert.equal(answer.status, 401)
      assert.equal(await answer.text(), unknown)
    }
  })

  test('is a 403 while its workspace is not onboarded', async () => {
    const other = await gateway.manage<{ id: string; api_key: string }>('POST', '/v1/operator/workspaces', {
      name: 'b',
    })
    for (const [onboarded, status] of [
      [true, 200],
      [false, 403],
      [true, 200],
    ] as const) {
      await gateway.manage('PATCH', `/v1/operator/workspaces/${other.id}`, { onboarded })
      assert.equal((await list(other.api_key)).status, status)
    }
  })

  test('sees an endpoint as soon as it exists, and no longer once it is gone', async () => {
    const key = await mint({ type: 'WORKSPACE_INVOKE' })
    assert.ok(!(await modelsOf(key)).includes('acme/new'))
    const { id } = await serve('acme/new', [{ model_id: small }])
    assert.ok((await modelsOf(key)).includes('acme/new'))
    await gateway.manage('DELETE', `/v1/gateway/endpoints/${id}`)
    assert.ok(!(await modelsOf(key)).includes('acme/new'))
    assert.equal((await gateway.infer(key, chat({ model: 'acme/new' }))).status, 404)
  })

  test('reads the metrics of its own slugs; one narrowed to models those of what they serve, and nothing else', async () => {
    const caller = await mint({ type: 'WORKSPACE_INVOKE' })
    for (const model of all) await (await gateway.infer(caller, chat({ model }))).text()
    const slugsOf = (text: string) => [...new Set([...text.matchAll(/slug="([^"]*)"/g)].map(([, slug]) => slug))].sort()

    const everything = await metrics(await mint({ type: 'WORKSPACE_EXPORT_METRICS' }))
    for (const slug of all) assert.ok(slugsOf(everything).includes(slug))
    assert.match(everything, /^tollgate_process_cpu_seconds_total /m)

    const ofLarge = await metrics(await mint({ type: 'WORKSPACE_EXPORT_METRICS', model_ids: [large] }))
    assert.deepEqual(slugsOf(ofLarge), ['acme/both', 'acme/large'])
    const series = ofLarge.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    assert.ok(series.length > 0 && series.every((line) => line.includes('slug="')))

    const other = await gateway.manage<{ api_key: string }>('POST', '/v1/operator/workspaces', { name: 'other' })
    assert.deepEqual(
      slugsOf(await metrics(other.api_key)).filter((slug) => slug !== 'none'),
      [],
    )
  })

  test('shows when it was last used, on either listener', async () => {
    const startedMs = Date.now()
    const caller = await mint({ type: 'WORKSPACE_INVOKE' })
    const reader = await mint({ type: 'WORKSPACE_EXPORT_METRICS' })
    const unused = await mint({ type: 'WORKSPACE_INVOKE' })
    await gateway.infer(caller, chat({ model: 'acme/small' }))
    await metrics(reader)
    const used = [caller, reader].map(publicPrefix)
    const uses = await until(
      async () => {
        const found = await lastUses()
        return used.every((prefix) => found.get(prefix) !== null) && found
      },
      { everyMs: 50 },
    )
    for (const prefix of used) {
      const usedAtMs = Date.parse(uses.get(prefix) ?? '')
      assert.ok(usedAtMs >= startedMs && usedAtMs <= Date.now())
    }
    assert.equal(uses.get(publicPrefix(unused)), null)
  })

  async function register(name: string): Promise<string> {
    const environments = [
      { name: 'production', base_url: production.baseUrl },
      { name: 'staging', base_url: staging.baseUrl },
    ]
    return (await gateway.manage<{ id: string }>('POST', '/v1/models', { name, environments })).id
  }

  function serve(slug: string, targets: object[]): Promise<{ id: string }> {
    const ours = targets.map((target) => ({ provider: 'SELF_HOSTED', ...target }))
    return gateway.manage('POST', '/v1/gateway/endpoints', { slug, targets: ours })
  }

  async function mint(body: object): Promise<string> {
    return (await gateway.manage<{ api_key: string }>('POST', '/v1/api_keys', body)).api_key
  }

  function list(key: string): Promise<Response> {
    return fetch(`${gateway.inference}/v1/models`, { headers: { authorization: `Api-Key ${key}` } })
  }

  async function modelsOf(key: string): Promise<string[]> {
    const { data } = (await (await list(key)).json()) as { data: { id: string }[] }
    return data.map(({ id }) => id)
  }

  async function metrics(key: string): Promise<string> {
    const response = await fetch(`${gateway.management}/metrics`, { headers: { authorization: `Bearer ${key}` } })
    assert.equal(response.status, 200)
    return response.text()
  }

  /** By prefix, as the API shows them. */
  async function lastUses(): Promise<Map<string, string | null>> {
    const { keys } = await gateway.manage<{ keys: ListedKey[] }>('GET', '/v1/api_keys')
    return new Map(keys.map(({ prefix, last_used_at }) => [prefix, last_used_at]))
  }
})

interface ListedKey {
  prefix: string
  last_used_at: string | null
}
