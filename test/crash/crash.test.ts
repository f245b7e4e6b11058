import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { startReceiver } from '../delivery/receiver.ts'
import { temporaryFolder } from '../ledger/temporary-folder.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { type ServedProcess, startServed, workspaceKey } from '../support/served-process.ts'
import { until } from '../support/until.ts'

const slug = 'acme/model'
const kills = 20
const stops = 3

/**
 * The record's promise, on real processes under load: a response that a client saw complete has exactly one event,
 * whatever ended the process and whenever (contract §14).
 */
test('killed, stopped and run out of disk, the server loses no event of a completed response and doubles none', async (t) => {
  await using started = new AsyncDisposableStack()
  const folder = started.use(temporaryFolder())
  const disk = smallDisk(folder.path)
  started.defer(() => {
    disk.unmount()
  })
  const upstream = started.use(await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } }))
  const receiver = started.use(await startReceiver())
  let server = await startServed(disk.path)
  started.defer(async () => {
    await server.kill()
  })
  const { groupId, key } = await setUp(server, { upstream, webhookUrl: receiver.url })

  const completed = new Set<string>()
  let isOver = false
  const clients = Array.from({ length: 12 }, async (_, index) => {
    while (!isOver) {
      const requestId = await call(server, key, { stream: index % 2 === 0 })
      if (requestId === null) await delay(5)
      else completed.add(requestId)
    }
  })
  const progress = async (responses: number) => {
    const enough = completed.size + responses
    await until(() => completed.size >= enough, { withinMs: 20_000 })
  }

  for (let kill = 0; kill < kills; kill++) {
    await progress(20)
    await delay(Math.random() * 60)
    await server.kill()
    server = await startServed(disk.path)
  }
  for (let stop = 0; stop < stops; stop++) {
    await progress(20)
    assert.equal(await server.stop(), 0, 'a stop that was asked for ends with exit code 0')
    server = await startServed(disk.path)
  }
  await progress(20)
  disk.fill()
  const before = completed.size
  await until(async () => (await failedWrites(server)) >= 3, { withinMs: 30_000 })
  const whileFull = completed.size - before
  disk.free()
  await progress(50)
  isOver = true
  await Promise.all(clients)

  const recorded = await readEvents(server)
  const ids = recorded.map(({ requestId }) => requestId)
  const lost = [...completed].filter((id) => !ids.includes(id))
  const doubled = ids.length - new Set(ids).size
  await until(
    () =>
      new Set(receiver.posts.flatMap(({ events }) => events.map((event) => event.idempotencyKey))).size ===
      recorded.length,
    { withinMs: 30_000 },
  )
  t.diagnostic(
    `${kills} kills, ${stops} stops, 1 full disk (${whileFull} responses meanwhile): ${completed.size} responses seen complete, ` +
      `${recorded.length} events, ${lost.length} lost, ${doubled} doubled, all delivered`,
  )
  assert.deepEqual(lost, [])
  assert.equal(doubled, 0)
  assert.equal(new Set(recorded.map(({ idempotencyKey }) => idempotencyKey)).size, recorded.length)
  assert.deepEqual(
    recorded.map(({ sequence }) => sequence),
    recorded.map((_, index) => index + 1),
  )

  const { usage } = await manage<Usage>(server, 'GET', `/v1/gateway/groups/${groupId}/usage`)
  const tokens = recorded.reduce((sum, event) => sum + event.tokens.inputTokens + event.tokens.outputTokens, 0)
  const used = Object.fromEntries((usage[slug] ?? []).map(({ type, current_usage }) => [type, current_usage]))
  assert.deepEqual(used, { REQUEST: recorded.length, TOKEN: tokens }, "the day's counters are the sum of the record")

  assert.equal(await server.stop(), 0)
  await using database = await openTestDatabase(disk.path)
  assert.deepEqual(await Array.fromAsync(verifyLedger(database.queries)), [])
})

interface Usage {
  usage: Record<string, { type: string; current_usage: number }[]>
}

interface Recorded {
  requestId: string
  idempotencyKey: string
  sequence: number
  tokens: { inputTokens: number; outputTokens: number }
}

async function manage<Body>(server: ServedProcess, method: string, path: string, body?: object): Promise<Body> {
  const response = await fetch(server.management + path, {
    method,
    headers: { authorization: `Api-Key ${workspaceKey}`, 'content-type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
  })
  assert.equal(response.status, 200, `${method} ${path}: ${await response.clone().text()}`)
  return (await response.json()) as Body
}

async function setUp(
  server: ServedProcess,
  { upstream, webhookUrl }: { upstream: MockUpstream; webhookUrl: string },
): Promise<{ groupId: string; key: string }> {
  const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'model' }
  await manage(server, 'POST', '/v1/gateway/endpoints', { slug, targets: [target] })
  const daily = (type: string) => ({ type, unit: 'DAY', threshold: 1_000_000_000 })
  const group = await manage<{ id: string }>(server, 'POST', '/v1/gateway/groups', {
    metadata: { external_entity_id: 'cust_42' },
    models: [{ slug, usage_limits: [daily('REQUEST'), daily('TOKEN')] }],
    hierarchy: {},
  })
  const key = await manage<{ api_key: string }>(server, 'POST', `/v1/gateway/groups/${group.id}/api_keys`, {})
  await manage(server, 'POST', '/v1/gateway/webhooks', { url: webhookUrl, retry_window_seconds: 600 })
  return { groupId: group.id, key: key.api_key }
}

/** One call; resolves with its request id once its response has completed, with null where it did not. */
async function call(
  { inference }: ServedProcess,
  key: string,
  { stream }: { stream: boolean },
): Promise<string | null> {
  try {
    const response = await fetch(`${inference}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: slug, stream, messages: [{ role: 'user', content: 'Hello' }] }),
    })
    const text = await response.text()
    const isComplete = stream ? text.endsWith('data: [DONE]\n\n') : response.status === 200
    return isComplete ? response.headers.get('x-request-id') : null
  } catch {
    return null
  }
}

/** How often the ledger, or the journal, could not be written. */
async function failedWrites({ management }: ServedProcess): Promise<number> {
  const response = await fetch(`${management}/metrics`, { headers: { authorization: `Api-Key ${workspaceKey}` } })
  const series = /^tollgate_(?:shipping_failures|events_unrecorded)_total (\d+)$/gm
  return [...(await response.text()).matchAll(series)].reduce((sum, [, count]) => sum + Number(count), 0)
}

async function readEvents(server: ServedProcess): Promise<Recorded[]> {
  const events: Recorded[] = []
  let query = 'start_time=2020-01-01T00:00:00Z&limit=1000'
  for (;;) {
    const page = await manage<{ items: Recorded[]; pagination: { cursor: string | null } }>(
      server,
      'GET',
      `/v1/gateway/events?${query}`,
    )
    events.push(...page.items)
    if (page.pagination.cursor === null) return events
    query = `cursor=${encodeURIComponent(page.pagination.cursor)}`
  }
}

/** A disk of 64 MB that a test can fill up and free again. */
function smallDisk(parent: string) {
  const path = join(parent, 'disk')
  const ballast = join(path, 'ballast')
  execFileSync('mkdir', [path])
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=0700', 'tmpfs', path])
  return {
    path,
    fill() {
      try {
        writeFileSync(ballast, Buffer.alloc(128 * 1024 * 1024))
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
      }
    },
    free: () => rmSync(ballast),
    unmount: () => execFileSync('umount', ['-l', path]),
  }
}
