import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openJournal } from '../../src/ledger/journal.ts'
import { startReceiver, status } from '../delivery/receiver.ts'
import { quiet } from '../ledger/quiet-parts.ts'
import { sampleEvent } from '../ledger/sample-event.ts'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { type CommandRun, tollgate } from '../support/tollgate-command.ts'
import { until } from '../support/until.ts'

describe('`tollgate import`', () => {
  let server: PostgresServer
  let upstream: MockUpstream
  let databases = 0

  before(async () => {
    server = await startPostgres()
    upstream = await startMockUpstream({ script: { promptTokens: 10, completionTokens: 20 } })
  })
  after(async () => {
    await upstream[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  async function emptyDatabase(): Promise<Record<string, string>> {
    databases += 1
    await server.create(`import_${databases}`)
    return { TOLLGATE_DATABASE_URL: server.url(`import_${databases}`) }
  }

  const runImport = (from: string, settings: Record<string, string>, options: { killAfterMs?: number } = {}) =>
    tollgate(['import', '--from', from, '--data-dir', from], { settings, ...options })

  /** An installation with a bit of everything, and a webhook whose receiver does not take what it is sent. */
  async function fill(gateway: Gateway, webhookUrl: string): Promise<Customer> {
    const secret = await gateway.manage<{ id: string }>('POST', '/v1/secrets', { name: 'upstream', value: 'sk-lab' })
    const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'm' }
    await gateway.manage('POST', '/v1/gateway/endpoints', {
      slug: defaultSlug,
      targets: [{ ...target, secret_id: secret.id }],
    })
    const parent = await gateway.customer({
      enforcement: 'CASCADING',
      externalEntityId: 'a parent, "quoted" \\ und grün',
    })
    const customer = await gateway.customer({ parent: parent.groupId, enforcement: 'CASCADING' })
    await gateway.manage('POST', '/v1/gateway/webhooks', { url: webhookUrl, retry_window_seconds: 3_600 })
    for (let call = 0; call < 25; call += 1) {
      const body = chat({ metadata: { note: 'a\tb "c" \u2028' } })
      await (await gateway.infer(customer.key, body)).text()
    }
    return customer
  }

  test('moves an installation with nothing lost: keys, secrets, the record, its stream and deliveries go on as they were', async () => {
    using folder = temporaryFolder()
    const settings = await emptyDatabase()
    await using receiver = await startReceiver(status(503))
    const stopped = await startGateway({ dataDir: folder.path })
    const customer = await fill(stopped, receiver.url)
    await until(() => receiver.posts.length > 0)
    const before = await until(async () => {
      const events = await eventsOf(stopped)
      return events.length === 25 && events
    })
    const { cursor } = (await eventPage(stopped, 'start_time=2020-01-01T00:00:00Z&limit=10')).pagination
    const groups = await stopped.manage('GET', '/v1/gateway/groups')
    const refused = await runImport(folder.path, settings)
    assert.deepEqual([refused.code, /One process at a time/.test(refused.stderr)], [1, true])
    const { items } = await stopped.manage<{ items: { id: string }[] }>('GET', '/v1/operator/workspaces')
    await stopped[Symbol.asyncDispose]()

    // What a killed process leaves.
    const journal = openJournal({ path: join(folder.path, 'journal.db'), sync: 'normal', ...quiet })
    const left = sampleEvent({
      workspaceId: items[0]?.id ?? '',
      apiKeyPrefix: customer.prefix,
      groupId: customer.groupId,
    })
    await journal.append(left)
    await journal[Symbol.asyncDispose]()

    const run = await runImport(folder.path, settings)
    assert.equal(run.code, 0, run.stderr)
    assert.match(run.stdout, /^events +26$/m)
    assert.match(run.stdout, /agrees with all/)

    receiver.answer = status(200)
    await using gateway = await startGateway({ dataDir: folder.path, settings })
    const response = await gateway.infer(customer.key, chat())
    await response.text()
    assert.equal(response.status, 200)
    assert.equal(upstream.requests.at(-1)?.headers.authorization, 'Bearer sk-lab')
    assert.deepEqual(await gateway.manage('GET', '/v1/gateway/groups'), groups)

    const events = await until(async () => {
      const found = await eventsOf(gateway)
      return found.length === 27 && found
    })
    assert.deepEqual(events.slice(0, 25), before)
    assert.equal(events[25]?.idempotencyKey, left.idempotencyKey)
    assert.deepEqual(
      events.map(({ sequence }) => sequence),
      events.map((_, index) => index + 1),
    )
    const next = await eventPage(gateway, `cursor=${encodeURIComponent(String(cursor))}`)
    assert.deepEqual(next.items.slice(0, 10), before.slice(10, 20))
    await until(() => {
      const taken = new Set(receiver.posts.flatMap((post) => post.events.map(({ sequence }) => sequence)))
      return taken.size === 27
    })
    const bodies = Map.groupBy(receiver.posts, ({ requestId }) => requestId)
    for (const posts of bodies.values()) for (const { body } of posts) assert.deepEqual(body, posts[0]?.body)

    const again = await runImport(folder.path, settings)
    assert.equal(again.code, 1)
    const verified = await tollgate(['ledger', 'verify'], { settings })
    assert.equal(verified.code, 0, verified.stdout)
  })

  test('refuses a database that is not empty, or from which a node serves, and changes nothing there', async () => {
    using folder = temporaryFolder()
    await (await startGateway({ dataDir: folder.path }))[Symbol.asyncDispose]()
    const settings = await emptyDatabase()
    const refusal = async (words: RegExp) => {
      const { code, stderr } = await runImport(folder.path, settings)
      assert.deepEqual([code, words.test(stderr)], [1, true], stderr)
    }
    {
      await using serving = await startGateway({ settings })
      await refusal(/A node serves from this database/)
      await serving.manage('GET', '/v1/gateway/groups')
    }
    await refusal(/is not empty: workspaces has 1 rows/)
  })

  test('brings the generated keys along, and refuses where the node to come has others', async () => {
    using folder = temporaryFolder()
    using other = temporaryFolder()
    using fresh = temporaryFolder()
    const settings = await emptyDatabase()
    for (const dataDir of [folder.path, other.path]) {
      await (await startGateway({ dataDir }))[Symbol.asyncDispose]()
    }
    const otherKey = { ...settings, TOLLGATE_MASTER_KEY: Buffer.alloc(32, 1).toString('base64') }
    assert.match((await runImport(folder.path, otherKey)).stderr, /under another master key/)
    const words = ['import', '--from', folder.path, '--data-dir', other.path]
    assert.match((await tollgate(words, { settings })).stderr, /holds another key/)
    assert.match(
      (await tollgate(['import', '--from', join(other.path, 'nowhere')], { settings })).stderr,
      /no installation in/,
    )

    writeFileSync(join(folder.path, 'operator-key'), 'op_1.0123456789abcdef0123456789abcdef\n', { mode: 0o600 })
    const { code, stderr } = await tollgate(['import', '--from', folder.path, '--data-dir', fresh.path], { settings })
    assert.equal(code, 0, stderr)
    for (const name of ['master-key', 'operator-key']) {
      assert.equal(readFileSync(join(fresh.path, name), 'utf8'), readFileSync(join(folder.path, name), 'utf8'))
      assert.equal(statSync(join(fresh.path, name)).mode & 0o777, 0o600)
    }
  })

  test('killed at any moment, leaves all or nothing, and can be done again', async () => {
    using folder = temporaryFolder()
    const settings = await emptyDatabase()
    await using receiver = await startReceiver()
    const stopped = await startGateway({ dataDir: folder.path })
    await fill(stopped, receiver.url)
    await stopped[Symbol.asyncDispose]()
    let last: CommandRun = { code: null, stdout: '', stderr: '' }
    for (const killAfterMs of [350, 450, 500, 550, 600, 700, 60_000]) {
      last = await runImport(folder.path, settings, { killAfterMs })
      if (last.code !== null) break
    }
    const isThere = last.code === 0 || /is not empty: workspaces has 1 rows/.test(last.stderr)
    assert.ok(isThere, last.stderr)
    await using gateway = await startGateway({ dataDir: folder.path, settings })
    assert.equal((await eventsOf(gateway)).length, 25)
    assert.equal((await tollgate(['ledger', 'verify'], { settings })).code, 0)
  })
})

interface WireEvent {
  idempotencyKey: string
  sequence: number
}

interface EventPage {
  items: WireEvent[]
  pagination: { cursor: string | null }
}

function eventPage(gateway: Gateway, query: string): Promise<EventPage> {
  return gateway.manage<EventPage>('GET', `/v1/gateway/events?${query}`)
}

async function eventsOf(gateway: Gateway): Promise<WireEvent[]> {
  return (await eventPage(gateway, 'start_time=2020-01-01T00:00:00Z&limit=1000')).items
}
