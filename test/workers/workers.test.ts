import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { childProcesses } from '../support/child-processes.ts'
import { chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { madeOf } from '../support/made-of.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { recordedEvents } from '../support/recorded-events.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

describe('several inference processes', () => {
  let upstream: MockUpstream
  let gateway: Gateway

  before(async () => {
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
    gateway = await startGateway({ settings: { TOLLGATE_WORKERS: '3' } })
    await gateway.publish(defaultSlug, upstream.baseUrl)
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  test('admit exactly the threshold together', async () => {
    const { key } = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 90 }] })
    const responses = await Promise.all(Array.from({ length: 300 }, () => call(gateway, key)))
    await Promise.all(responses.map((response) => response.text()))
    assert.equal(responses.filter(({ status }) => status === 200).length, 90)
    assert.equal(responses.filter(({ status }) => status === 429).length, 210)
  })

  test('hear of a revoked key and of a changed limit before the change is answered', async () => {
    const customer = await gateway.customer({})
    assert.deepEqual(await statusesOfCalls(gateway, customer.key), Array(12).fill(200))
    await gateway.manage('PATCH', `/v1/gateway/groups/${customer.groupId}`, {
      models: [{ slug: defaultSlug, rate_limits: [{ type: 'REQUEST', unit: 'SECOND', threshold: 0 }] }],
    })
    assert.deepEqual(await statusesOfCalls(gateway, customer.key), Array(12).fill(429))
    await gateway.manage('DELETE', `/v1/gateway/groups/${customer.groupId}/api_keys/${customer.prefix}`)
    assert.deepEqual(await statusesOfCalls(gateway, customer.key), Array(12).fill(401))
  })

  test('count together in /metrics and in the usage of a group', async () => {
    const customer = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'DAY', threshold: 1_000 }] })
    const before = await answered()
    for (let request = 0; request < 20; request++) await (await call(gateway, customer.key)).text()
    assert.equal((await answered()) - before, 20)
    const { usage } = await gateway.manage<{ usage: Record<string, { current_usage: number }[]> }>(
      'GET',
      `/v1/gateway/groups/${customer.groupId}/usage`,
    )
    assert.equal(usage[defaultSlug]?.[0]?.current_usage, 20)
  })

  test('lose no event when one of them is killed, and there are as many as before soon after', async () => {
    const customer = await gateway.customer({})
    const workers = childProcesses()
    assert.equal(workers.length, 3)
    const completed = new Set<string>()
    let isOver = false
    const load = Array.from({ length: 8 }, async () => {
      while (!isOver) {
        const response = await call(gateway, customer.key).catch(() => null)
        const text = await response?.text().catch(() => null)
        if (response?.status === 200 && text?.endsWith('}')) completed.add(String(response.headers.get('x-request-id')))
      }
    })
    for (const victim of workers.slice(0, 2)) {
      const sofar = completed.size
      await until(() => completed.size > sofar + 50)
      process.kill(victim, 'SIGKILL')
    }
    await until(
      () => childProcesses().length === 3 && !childProcesses().some((pid) => workers.slice(0, 2).includes(pid)),
    )
    const sofar = completed.size
    await until(() => completed.size > sofar + 50)
    isOver = true
    await Promise.all(load)

    const recorded = await until(async () => {
      const ids = (await recordedEvents(gateway, customer.prefix)).map(({ requestId }) => requestId)
      return [...completed].every((id) => ids.includes(id)) && ids
    })
    assert.equal(new Set(recorded).size, recorded.length, 'no event stands twice')
  })

  async function answered(): Promise<number> {
    const response = await fetch(`${gateway.management}/metrics`, {
      headers: { authorization: `Api-Key ${gateway.workspaceKey}` },
    })
    const line = (await response.text())
      .split('\n')
      .find((text) => text.startsWith(`tollgate_requests_total{slug="${defaultSlug}",status="200"}`))
    return Number(line?.split(' ').at(-1) ?? 0)
  }
})

describe('an inference process that hangs', () => {
  let upstream: MockUpstream
  before(async () => {
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
  })
  after(() => upstream[Symbol.asyncDispose]())

  test('holds up no change, and another takes its place', async () => {
    await using gateway = await startGateway({ settings: { TOLLGATE_WORKERS: '2' } })
    await gateway.publish(defaultSlug, upstream.baseUrl)
    const customer = await gateway.customer({})
    const [hanging = 0] = childProcesses()
    process.kill(hanging, 'SIGSTOP')
    await gateway.manage('PATCH', `/v1/gateway/groups/${customer.groupId}`, {
      models: [{ slug: defaultSlug, rate_limits: [{ type: 'REQUEST', unit: 'SECOND', threshold: 0 }] }],
    })
    await until(() => childProcesses().length === 2 && !childProcesses().includes(hanging))
    assert.deepEqual(await statusesOfCalls(gateway, customer.key), Array(12).fill(429))
  })

  test('is replaced without anybody asking, and no other is', async () => {
    await using _gateway = await startGateway({ settings: { TOLLGATE_WORKERS: '2' } })
    const [hanging = 0, healthy = 0] = childProcesses()
    process.kill(hanging, 'SIGSTOP')
    await until(() => childProcesses().length === 2 && !childProcesses().includes(hanging), { withinMs: 30_000 })
    assert.ok(childProcesses().includes(healthy))
  })

  test('keeps the installation from stopping no longer than a request may, and its events arrive', async () => {
    using folder = temporaryFolder()
    const settings = { TOLLGATE_WORKERS: '2', TOLLGATE_SHUTDOWN_TIMEOUT_MS: '200' }
    const gateway = await startGateway({ dataDir: folder.path, settings })
    await gateway.publish(defaultSlug, upstream.baseUrl)
    const customer = await gateway.customer({})
    const statuses = await statusesOfCalls(gateway, customer.key)
    for (const pid of childProcesses()) process.kill(pid, 'SIGSTOP')
    await gateway[Symbol.asyncDispose]()
    assert.deepEqual(childProcesses(), [])

    const left = readdirSync(folder.path).filter((name) => /^journal.*\.log$/.test(name))
    assert.deepEqual(left, [], 'what the killed ones have left is in the record')
    await using again = await startGateway({ dataDir: folder.path, settings })
    assert.deepEqual(statuses, Array(12).fill(200))
    assert.equal((await recordedEvents(again, customer.prefix)).length, 12)
  })
})

test('a worker that is starting holds up no change, is not killed for it, and serves what was changed', async () => {
  await using upstream = await startMockUpstream()
  await using gateway = await startGateway({ settings: { TOLLGATE_WORKERS: '2' } })
  await gateway.publish(defaultSlug, upstream.baseUrl)
  const customer = await gateway.customer({})
  const before = childProcesses()
  process.kill(before[0] ?? 0, 'SIGKILL')
  const successor = await until(() => childProcesses().find((pid) => !before.includes(pid)))
  process.kill(successor, 'SIGSTOP')
  await gateway.manage('PATCH', `/v1/gateway/groups/${customer.groupId}`, {
    models: [{ slug: defaultSlug, rate_limits: [{ type: 'REQUEST', unit: 'SECOND', threshold: 0 }] }],
  })
  process.kill(successor, 'SIGCONT')
  process.kill(before[1] ?? 0, 'SIGKILL')
  const statuses = await until(() => statusesOfCalls(gateway, customer.key).catch(() => null))
  assert.deepEqual(statuses, Array(12).fill(429))
  assert.ok(childProcesses().includes(successor))
})

test('who reads the record while a worker dies waits for its successor, and finds what the worker had recorded', async () => {
  await using upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
  await using gateway = await startGateway({ settings: { TOLLGATE_WORKERS: '2' } })
  await gateway.publish(defaultSlug, upstream.baseUrl)
  const customer = await gateway.customer({})
  await statusesOfCalls(gateway, customer.key)
  const workers = childProcesses()
  for (const pid of workers) process.kill(pid, 'SIGSTOP')
  const reading = recordedEvents(gateway, customer.prefix)
  for (const pid of workers) process.kill(pid, 'SIGKILL')
  assert.equal((await reading).length, 12)
})

test('a worker that cannot be made is tried again, and ends nothing', async () => {
  await using gateway = await startGateway({ settings: { TOLLGATE_WORKERS: '2' } })
  const [victim = 0] = childProcesses()
  let tries = 0
  {
    using _nowhere = madeOf(() => {
      tries += 1
      return '/nowhere'
    })
    process.kill(victim, 'SIGKILL')
    await until(() => tries > 0)
  }
  await until(() => childProcesses().length === 2 && !childProcesses().includes(victim))
  assert.equal((await fetch(`${gateway.inference}/health`)).status, 200)
})

/** One connection for each call, so that the kernel spreads them over the workers. */
function call(gateway: Gateway, key: string): Promise<Response> {
  return gateway.infer(key, chat(), { headers: { connection: 'close' } })
}

/** Of twelve calls at once. */
async function statusesOfCalls(gateway: Gateway, key: string): Promise<number[]> {
  const responses = await Promise.all(Array.from({ length: 12 }, () => call(gateway, key)))
  await Promise.all(responses.map((response) => response.text()))
  return responses.map(({ status }) => status)
}
