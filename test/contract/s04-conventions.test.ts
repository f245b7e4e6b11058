import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import {
  type ErrorBody,
  type Lab,
  type Management,
  operations,
  type Page,
  startManagement,
} from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

describe('conventions of the management API', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
  })
  after(() => management[Symbol.asyncDispose]())

  test('a route that does not exist is a 404 in the error shape, for everyone', async () => {
    const error = await management.caller(null).refused(404, 'GET /v1/nowhere')
    assert.equal(error.code, 'NOT_FOUND')
    await lab.refused(404, 'PUT /v1/gateway/groups')
  })

  test('a body field that does not exist is a 400 that names it, at any depth', async () => {
    const error = await lab.refused(400, 'POST /v1/gateway/groups', {
      metadata: { external_entity_id: 'a', nick: 'b' },
      models: [{ slug: 'org-1/a', rate_limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: 1, burst: 2 }] }],
      hierarchy: {},
      colour: 'red',
    })
    const paths = error.details?.map(({ path }) => path)
    assert.deepEqual(paths?.sort(), ['colour', 'metadata.nick', 'models.0.rate_limits.0.burst'])
  })

  test('a query parameter that does not exist is a 400 that names it', async () => {
    await lab.invalid('colour', 'GET /v1/gateway/groups?colour=red')
    await lab.invalid('limit', 'GET /v1/models?limit=5')
  })

  test('a text with U+0000, which PostgreSQL does not take, is a 400 that names its place, wherever it stands', async () => {
    await lab.invalid('external_entity_id', 'GET /v1/gateway/groups?external_entity_id=a%00')
    await lab.invalid('group_id', 'GET /v1/gateway/groups/%00')
    await lab.invalid('environments.0.base_url', 'POST /v1/models', {
      name: 'm',
      environments: [{ name: 'production', base_url: 'http://127.0.0.1:1/\0' }],
    })
    await lab.invalid('name', 'POST /v1/teams', { name: '\0' })
    const { status } = await fetch(`${management.url}/v1/gateway/domains/check?domain=%00`)
    assert.equal(status, 400)
  })

  test('a text that would read back as another one is a 400 that names its place, wherever it stands', async () => {
    const group = (external_entity_id: string, name: string) => ({
      metadata: { external_entity_id, name },
      models: [{ slug: 'org-1/a' }],
      hierarchy: {},
    })
    for (const half of ['a\ud800', '\udc00', '\udc00\ud800', 'a\ud800b']) {
      const { message } = await lab.invalid('metadata.external_entity_id', 'POST /v1/gateway/groups', group(half, 'a'))
      assert.match(message, /well-formed Unicode/)
      await lab.invalid('metadata.name', 'POST /v1/gateway/groups', group('halves', half))
      await lab.invalid(`no ${half}`, 'POST /v1/gateway/groups', { ...group('halves', 'a'), [`no ${half}`]: 'a' })
    }
    const whole = 'a\u{1f600}\ufffd\u00fc'
    const { id, metadata } = await lab.ok<Group>('POST /v1/gateway/groups', group(whole, whole))
    assert.equal(metadata.external_entity_id, whole)
    assert.deepEqual((await lab.ok<Group>(`GET /v1/gateway/groups/${id}`)).metadata, metadata)

    const bytes = Buffer.from(JSON.stringify(group('a?', 'a')))
    bytes[bytes.indexOf('?')] = 0xff
    const response = await fetch(`${management.url}/v1/gateway/groups`, {
      method: 'POST',
      headers: { authorization: `Bearer ${lab.key}`, 'content-type': 'application/json' },
      body: bytes,
    })
    assert.equal(response.status, 400)
    assert.match(((await response.json()) as ErrorBody).message, /not valid UTF-8/)
  })

  test('a body where none is taken is a 400 that names its field', async () => {
    await lab.invalid('force', 'DELETE /v1/secrets/none', { force: true })
  })

  test('a body that is not JSON is a 400', async () => {
    const error = await lab.refused(400, 'POST /v1/gateway/groups', '{"metadata":')
    assert.equal(error.message, 'The request body is not valid JSON.')
    assert.doesNotMatch(JSON.stringify(error), /position|token/i)
  })

  test('a body of another media type is a 400', async () => {
    const { status } = await lab.call('POST /v1/secrets', 'name=a&value=b', {
      'content-type': 'application/x-www-form-urlencoded',
    })
    assert.equal(status, 400)
  })

  test('a body of more than 1 MiB is a 413', async () => {
    const error = await lab.refused(413, 'POST /v1/secrets', { name: 'a', value: 'x'.repeat(1024 * 1024) })
    assert.equal(error.code, 'PAYLOAD_TOO_LARGE')
  })

  test('a path that cannot be decoded is a 400 in the error shape, with a request id', async () => {
    const response = await fetch(`${management.url}/v1/models/%E0%A4%A`)
    assert.equal(response.status, 400)
    assert.ok(response.headers.get('x-request-id'))
    const body = (await response.json()) as ErrorBody
    assert.equal(body.code, 'VALIDATION_ERROR')
  })

  test('request ids are made here: one that a client sends is not taken over', async () => {
    const one = await lab.call('GET /v1/models', undefined, { 'x-request-id': 'mine-mine-mine' })
    const two = await lab.call('GET /v1/models')
    assert.notEqual(one.headers.get('x-request-id'), 'mine-mine-mine')
    assert.notEqual(one.headers.get('x-request-id'), two.headers.get('x-request-id'))
  })

  test('an empty body counts as none, whatever content type is named with it', async () => {
    await lab.ok('POST /v1/secrets', { name: 'short-lived', value: 'x' })
    const { status } = await lab.call('DELETE /v1/secrets/short-lived', undefined, {
      'content-type': 'application/json',
    })
    assert.equal(status, 200)
  })

  test('a page holds 1 to 1000 items, 100 unless asked otherwise', async () => {
    for (const limit of ['0', '1001', '-1', '1.5', 'ten', '']) {
      await lab.invalid('limit', `GET /v1/gateway/groups?limit=${limit}`)
    }
    for (const limit of ['1', '1000']) await lab.ok(`GET /v1/gateway/groups?limit=${limit}`)
    const { parameters = [] } = management.schemas.document.paths['/v1/gateway/groups']?.['get'] ?? {}
    assert.deepEqual(parameters.find(({ name }) => name === 'limit')?.schema, {
      type: 'integer',
      minimum: 1,
      maximum: 1000,
      default: 100,
    })
  })

  test('a cursor that was not handed out is a 400', async () => {
    for (const cursor of ['!', 'not base64', Buffer.from('a b').toString('base64'), 'AAAA', '%00', '']) {
      await lab.invalid('cursor', `GET /v1/gateway/groups?cursor=${encodeURIComponent(cursor)}`)
    }
  })

  test('following the cursor shows every item once, oldest first, and ends with the last full page', async () => {
    const reader = await management.lab()
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) await createGroup(reader, name)
    const seen: string[] = []
    let pages = 0
    let next: string | null = ''
    while (next !== null) {
      const cursor: string = next === '' ? '' : `&cursor=${encodeURIComponent(next)}`
      const page: Page<Group> = await reader.ok(`GET /v1/gateway/groups?limit=2${cursor}`)
      assert.equal(page.pagination.has_more, page.pagination.cursor !== null)
      seen.push(...page.items.map(({ metadata }) => metadata.external_entity_id))
      next = page.pagination.cursor
      pages += 1
    }
    assert.deepEqual(seen, ['a', 'b', 'c', 'd', 'e', 'f'])
    assert.equal(pages, 3)
  })

  test('a workspace that is not onboarded gets 403 on all of /v1/gateway/ and nowhere else', async () => {
    const outsider = await management.lab({ onboarded: false })
    for (const { request, path } of operations(management)) {
      if (path.startsWith('/v1/operator/')) continue
      const { status } = await outsider.call(request)
      if (path.startsWith('/v1/gateway/')) assert.equal(status, 403, request)
      else assert.notEqual(status, 403, request)
    }
  })

  test('a failure of ours is a 500 that tells nothing but where to look', async () => {
    await using broken = await startManagement()
    const caller = await broken.lab()
    await broken.database.queries.schema.dropTable('models').execute()
    const error = await caller.refused(500, 'GET /v1/models')
    assert.equal(error.code, 'INTERNAL')
    assert.doesNotMatch(JSON.stringify(error), /models|table|sql/i)
  })
})

test('a workspace has at most 100 webhooks and 1,000 hostnames; one that it gives up makes room', async () => {
  const clock = new ManualClock()
  await using management = await startManagement({ clock })
  const lab = await management.lab()
  const { queries } = management.database
  const domains = Array.from({ length: 999 }, (_, index) => `${index}.example.com`)
  for (const hostname of domains) {
    await queries
      .insertInto('domains')
      .values({ id: hostname, workspace_id: lab.workspaceId, hostname, created_at: 1 })
      .execute()
  }
  const ofDomains = {
    path: '/v1/gateway/domains',
    bodyOf: (index: number) => ({ hostname: `new-${index}.example.com` }),
  }
  const ofWebhooks = {
    path: '/v1/gateway/webhooks',
    bodyOf: (index: number) => ({ url: `https://example.com/${index}` }),
  }
  for (let index = 0; index < 99; index++) await lab.ok(`POST ${ofWebhooks.path}`, ofWebhooks.bodyOf(index))
  // A hundred requests a second are as many as a key may send.
  clock.advance(1_000)

  for (const { path, bodyOf } of [ofDomains, ofWebhooks]) {
    const last = await lab.ok<{ id: string }>(`POST ${path}`, bodyOf(1_000))
    const { message } = await lab.refused(400, `POST ${path}`, bodyOf(1_001))
    assert.match(message, /^A workspace has at most (1000 hostnames|100 webhooks)\.$/)
    await lab.ok(`DELETE ${path}/${last.id}`)
    await lab.ok(`POST ${path}`, bodyOf(1_002))
  }
})

test('the 101st request of a key to a route within a second is a 429 that says when to come back', async () => {
  const clock = new ManualClock()
  await using management = await startManagement({ clock })
  const lab = await management.lab()
  for (let request = 0; request < 100; request += 1) await lab.ok('GET /v1/models')
  const refusal = await lab.call<ErrorBody>('GET /v1/models')
  assert.equal(refusal.status, 429)
  assert.equal(refusal.body.code, 'RATE_LIMITED')
  assert.equal(refusal.headers.get('retry-after'), '1')
  await lab.ok('GET /v1/secrets')
  await (await management.keyOfType('WORKSPACE_MANAGE_ALL', lab.workspaceId)).ok('GET /v1/models')
  clock.advance(999)
  await lab.refused(429, 'GET /v1/models')
  clock.advance(1)
  await lab.ok('GET /v1/models')
})

test('a request that arrives too slowly is answered in the error shape, and the connection ends', async () => {
  await using management = await startManagement({ requestTimeoutMs: 200 })
  const { key } = await management.lab()
  const { port, hostname } = new URL(management.url)
  const socket = connect(Number(port), hostname)
  socket.write(
    `POST /v1/secrets HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${key}\r\n` +
      'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"name":',
  )
  let answer = ''
  for await (const chunk of socket) answer += chunk
  const [head = '', body = ''] = answer.split('\r\n\r\n')
  assert.match(head, /^HTTP\/1\.1 400 /)
  assert.match(head, /x-request-id: [\w-]{8,}/)
  assert.equal(JSON.parse(body).code, 'VALIDATION_ERROR')
})

test('readiness is what the server says of itself; liveness needs nothing', async () => {
  let ready = false
  await using management = await startManagement({ ready: () => ready })
  const status = async (path: string) => (await fetch(management.url + path)).status
  assert.equal(await status('/health/live'), 200)
  assert.equal(await status('/health/ready'), 503)
  ready = true
  assert.equal(await status('/health/ready'), 200)
})

test('the API docs load nothing from another host', async () => {
  await using management = await startManagement()
  const answer = await fetch(`${management.url}/docs/`)
  assert.match(answer.headers.get('content-security-policy') ?? '', /^default-src 'self' 'unsafe-inline' data: blob:$/)
  const page = await answer.text()
  const sources = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, source = '']) => source)
  assert.ok(sources.length > 0)
  for (const source of sources) {
    assert.doesNotMatch(source, /^(https?:)?\/\//)
    const response = await fetch(new URL(source, `${management.url}/docs/`))
    assert.equal(response.status, 200, source)
  }
  assert.match(page, /\.\.\/v1\/spec/)
})

interface Group {
  id: string
  metadata: { external_entity_id: string }
}

function createGroup(lab: Lab, external_entity_id: string): Promise<Group> {
  return lab.ok('POST /v1/gateway/groups', {
    metadata: { external_entity_id },
    models: [{ slug: 'org-1/a' }],
    hierarchy: {},
  })
}
