import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { type ServedProcess, startServed, workspaceKey } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { type ReceivedPost, startReceiver } from './receiver.ts'

const slug = 'acme/model'

async function manage(server: ServedProcess, path: string, body: object): Promise<Record<string, string>> {
  const response = await fetch(server.management + path, {
    method: 'POST',
    headers: { authorization: `Api-Key ${workspaceKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  assert.equal(response.status, 200, await response.clone().text())
  return (await response.json()) as Record<string, string>
}

/** Makes what a call needs, and returns a customer's key. */
async function setUp(server: ServedProcess, { modelUrl, webhookUrl }: { modelUrl: string; webhookUrl: string }) {
  const target = { provider: 'OPENAI_COMPATIBLE', base_url: modelUrl, target_model: 'model' }
  await manage(server, '/v1/gateway/endpoints', { slug, targets: [target] })
  const group = await manage(server, '/v1/gateway/groups', {
    metadata: { external_entity_id: 'cust_42' },
    models: [{ slug }],
    hierarchy: {},
  })
  const key = await manage(server, `/v1/gateway/groups/${group['id']}/api_keys`, {})
  await manage(server, '/v1/gateway/webhooks', { url: webhookUrl })
  return String(key['api_key'])
}

/** One call; resolves with its request id once its response has completed, with null where it did not. */
async function call({ inference }: ServedProcess, key: string): Promise<string | null> {
  try {
    const response = await fetch(`${inference}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: slug, messages: [{ role: 'user', content: 'Hello' }] }),
    })
    await response.text()
    return response.status === 200 ? response.headers.get('x-request-id') : null
  } catch {
    return null
  }
}

test('killed again and again, the server delivers the event of every completed response, and bills none twice', async () => {
  using folder = temporaryFolder()
  const dataDir = join(folder.path, 'data')
  await using upstream = await startMockUpstream()
  const accepted: ReceivedPost[] = []
  const seen = new Set<string>()
  await using receiver = await startReceiver((post, response) => {
    const isFirst = !seen.has(post.requestId)
    seen.add(post.requestId)
    if (isFirst && seen.size % 3 === 0) return void response.writeHead(503).end()
    accepted.push(post)
    response.writeHead(200).end()
  })

  const completed = new Set<string>()
  let key = ''
  for (const livesMs of [250, 120, 400, 60]) {
    await using server = await startServed(dataDir)
    if (key === '') key = await setUp(server, { modelUrl: upstream.baseUrl, webhookUrl: receiver.url })
    let isAlive = true
    const callers = Array.from({ length: 4 }, async () => {
      while (isAlive) {
        const requestId = await call(server, key)
        if (requestId !== null) completed.add(requestId)
      }
    })
    await delay(livesMs)
    isAlive = false
    await server.kill()
    await Promise.all(callers)
  }
  assert.ok(completed.size > 10)

  await using _server = await startServed(dataDir)
  const delivered = () => accepted.flatMap(({ events }) => events)
  const keyOfRequest = () => new Map(delivered().map(({ requestId, idempotencyKey }) => [requestId, idempotencyKey]))
  const keyOfSequence = () => new Map(delivered().map(({ sequence, idempotencyKey }) => [sequence, idempotencyKey]))
  await until(() => completed.isSubsetOf(keyOfRequest()), { withinMs: 30_000 })
  await until(() => Math.max(...keyOfSequence().keys()) === keyOfSequence().size, { withinMs: 30_000 })
  assert.equal(new Set(keyOfSequence().values()).size, keyOfSequence().size)
  assert.equal(keyOfRequest().size, keyOfSequence().size)
  for (const attempts of Map.groupBy(receiver.posts, ({ requestId }) => requestId).values()) {
    for (const { body } of attempts) assert.deepEqual(body, attempts[0]?.body)
  }
})
