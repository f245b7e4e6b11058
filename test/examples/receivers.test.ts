import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { signatureHeaders } from '../../src/delivery/signature.ts'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

const examples = [
  { name: 'Python', command: 'python3', path: 'receiver-python/receiver.py' },
  { name: 'TypeScript', command: process.execPath, path: 'receiver-typescript/receiver.ts' },
]

interface Status {
  events: number
  first_sequence: number | null
  last_sequence: number | null
  missing: unknown[]
}

interface ReceiverProcess extends AsyncDisposable {
  url: string
  status(): Promise<Status>
}

async function startExample({ command, path }: { command: string; path: string }, secret: string, folder: string) {
  const script = join(import.meta.dirname, '../../examples', path)
  const child = spawn(command, [script, '--port', '0', '--database', join(folder, 'events.db')], {
    env: { PATH: process.env['PATH'], TOLLGATE_SIGNING_SECRET: secret },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const exited = once(child, 'exit')
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  const url = String(line).replace('listening on ', '')
  const receiver: ReceiverProcess = {
    url,
    status: async () => (await fetch(`${url}status`)).json() as Promise<Status>,
    async [Symbol.asyncDispose]() {
      child.kill()
      await exited
    },
  }
  return receiver
}

/** A delivery of events with these sequences, signed with `secret`. */
function delivery(sequences: number[], secret: string): { headers: Record<string, string>; body: string } {
  const events = sequences.map((sequence) => ({
    idempotencyKey: `key-${sequence}`,
    timestamp: '2026-01-15T12:00:00.000Z',
    modelSlug: defaultSlug,
    externalEntityId: 'cust_42',
    tokens: { inputTokens: 1, outputTokens: 2, cachedInputTokens: 0 },
    sequence,
  }))
  const body = JSON.stringify({ type: 'API_BILLING_USAGE', data: { events } })
  const requestId = 'd6a4bd5c-1f5e-4c43-9f1f-2f6f5b9ad6a4'
  return {
    headers: signatureHeaders({ requestId, nowMs: Date.now(), body: Buffer.from(body), secrets: [secret] }),
    body,
  }
}

for (const example of examples) {
  const isThere = spawnSync(example.command, ['--version']).status === 0
  describe(`the receiver in ${example.name}`, {
    skip: isThere ? false : `${example.command} is not on this machine`,
  }, () => {
    let upstream: MockUpstream
    let gateway: Gateway
    let customer: Customer

    before(async () => {
      upstream = await startMockUpstream()
      gateway = await startGateway()
      await gateway.publish(defaultSlug, upstream.baseUrl)
      customer = await gateway.customer({})
    })
    after(async () => {
      await gateway[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    })

    async function call(times: number): Promise<void> {
      for (let made = 0; made < times; made += 1) await (await gateway.infer(customer.key, chat())).text()
    }

    test(`stores every event once, however often it is sent, also while secrets rotate (${example.name})`, async () => {
      using folder = temporaryFolder()
      const path = '/v1/gateway/webhooks'
      const webhook = await gateway.manage<Record<'id' | 'signing_secret', string>>('POST', path, {
        url: 'http://127.0.0.1:9/',
      })
      await using receiver = await startExample(example, webhook.signing_secret, folder.path)
      await gateway.manage('PATCH', `${path}/${webhook.id}`, { url: receiver.url })
      const tested = await gateway.manage('POST', `${path}/${webhook.id}/test`)
      assert.equal(tested['delivered'], true)
      assert.equal((await receiver.status()).events, 0)

      const start = new Date().toISOString()
      await call(5)
      await until(async () => (await receiver.status()).events === 5)
      await gateway.manage('POST', `${path}/${webhook.id}/rotate_secret`)
      const { redelivered } = await gateway.manage<{ redelivered: number }>('POST', `${path}/${webhook.id}/redeliver`, {
        start_time: start,
        end_time: '2100-01-01T00:00:00Z',
      })
      assert.ok(redelivered >= 1)
      await call(2)
      await until(async () => (await receiver.status()).events === 7)
      const { items } = await gateway.manage<{ items: { status: string }[] }>('GET', `${path}/${webhook.id}/deliveries`)
      assert.ok(items.every(({ status }) => status !== 'dead'))
      assert.deepEqual((await receiver.status()).missing, [])
    })

    test(`refuses what is not signed, or is changed (${example.name})`, async () => {
      using folder = temporaryFolder()
      const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`
      await using receiver = await startExample(example, secret, folder.path)
      const { headers, body } = delivery([1], secret)
      const post = async (sent: { headers?: Record<string, string>; body: string }) =>
        (await fetch(receiver.url, { method: 'POST', ...sent })).status
      assert.equal(await post({ body }), 401)
      assert.equal(await post({ headers, body: body.replace('"inputTokens":1', '"inputTokens":9') }), 401)
      assert.equal(await post(delivery([1], `whsec_${Buffer.alloc(32, 2).toString('base64')}`)), 401)
      assert.equal((await receiver.status()).events, 0)
      assert.equal(await post({ headers, body }), 200)
      assert.equal((await receiver.status()).events, 1)
    })

    test(`tells which events it misses (${example.name})`, async () => {
      using folder = temporaryFolder()
      const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`
      await using receiver = await startExample(example, secret, folder.path)
      const missing = async (sequences: number[]) => {
        const response = await fetch(receiver.url, { method: 'POST', ...delivery(sequences, secret) })
        assert.equal(response.status, 200)
        return (await receiver.status()).missing.map((gap) => Object.values(gap as object))
      }
      assert.deepEqual(await missing([11, 12]), [])
      assert.deepEqual(await missing([15, 18]), [
        [13, 14],
        [16, 17],
      ])
      assert.deepEqual(await missing([13, 14]), [[16, 17]])
      assert.deepEqual(await missing([16, 17, 18]), [])
      assert.deepEqual(await receiver.status(), { events: 8, first_sequence: 11, last_sequence: 18, missing: [] })
    })
  })
}
