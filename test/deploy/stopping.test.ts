import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countTokens } from '../../src/inference/token-count.ts'
import { startGateway } from '../support/gateway.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { readEvents, setUp, slug } from '../support/record-under-load.ts'
import { type ServedProcess, startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

test('a node that is told to stop serves on, unready, until proxies have turned away', async () => {
  const clock = new ManualClock()
  await using gateway = await startGateway({ clock, settings: { TOLLGATE_SHUTDOWN_DELAY_MS: '5000' } })
  let hasStopped = false
  const stopping = gateway[Symbol.asyncDispose]().then(() => {
    hasStopped = true
  })

  await until(async () => (await fetch(`${gateway.management}/health/ready`)).status === 503)
  clock.advance(4_999)
  assert.equal((await fetch(`${gateway.inference}/health`)).status, 200)

  clock.advance(1)
  await until(() => {
    clock.advance(100)
    return hasStopped
  })
  await stopping
  await assert.rejects(fetch(`${gateway.inference}/health`))
})

for (const workers of ['1', '2']) {
  for (const why of ['the stop cuts', 'clients leave just before the stop'] as const) {
    test(`streams that ${why} are recorded as far as they came, with ${workers} inference processes`, async () => {
      await using started = new AsyncDisposableStack()
      const folder = started.use(temporaryFolder())
      const upstream = started.use(await startMockUpstream({ script: { text: 'one two three', pace: 'manual' } }))
      const settings = { TOLLGATE_WORKERS: workers, TOLLGATE_SHUTDOWN_TIMEOUT_MS: '100' }
      const server = started.use(await startServed(folder.path, settings))
      const { key } = await setUp(server, { upstream, webhookUrl: upstream.baseUrl })

      const leaving = new AbortController()
      const beginnings = Array.from({ length: 4 }, async () => {
        const response = await stream(server, key, leaving.signal)
        return readUntil(response, 'two')
      })
      await until(() => upstream.requests.length === beginnings.length)
      for (const request of upstream.requests) await request.release(2)
      await Promise.all(beginnings)
      if (why !== 'the stop cuts') leaving.abort()
      assert.equal(await server.stop(), 0)

      const output = await countTokens('one two ')
      const next = started.use(await startServed(folder.path))
      const events = await readEvents(next)
      assert.deepEqual(
        events.map(({ outcome, usageSource, tokens }) => ({ outcome, usageSource, output: tokens.outputTokens })),
        beginnings.map(() => ({ outcome: 'client_closed', usageSource: 'estimated', output })),
      )
    })
  }
}

function stream({ inference }: ServedProcess, key: string, signal: AbortSignal): Promise<Response> {
  return fetch(`${inference}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: slug, stream: true, messages: [{ role: 'user', content: 'Count to three' }] }),
    signal,
  })
}

async function readUntil({ body }: Response, word: string): Promise<void> {
  const reader = body?.getReader()
  for (let read = ''; !read.includes(word); ) read += Buffer.from((await reader?.read())?.value ?? []).toString()
}
