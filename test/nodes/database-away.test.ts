import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { sql } from 'kysely'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { openPostgresDatabase } from '../../src/storage/postgres.ts'
import { startReceiver } from '../delivery/receiver.ts'
import { childProcesses } from '../support/child-processes.ts'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { type PostgresServer, runStatement, startPostgres } from '../support/postgres.ts'
import { recordedEvents } from '../support/recorded-events.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

/** Most of the time is spent waiting for deadlines: they wait together. */
describe('a node whose database', { concurrency: true }, () => {
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

  interface Stage extends AsyncDisposable {
    /** Past the proxy. */
    url: string
    proxy: TcpProxy
    gateway: Gateway
    /** Whose key this node has served, and one whose key it has not. */
    known: Customer
    unknown: Customer
  }

  interface StageOptions {
    workers?: number
    dataDir?: string
    on?: PostgresServer
  }

  async function openStage({ workers = 1, dataDir, on = server }: StageOptions = {}): Promise<Stage> {
    await using opened = new AsyncDisposableStack()
    databases += 1
    const name = `away_${databases}`
    await on.create(name)
    const url = on.url(name)
    const proxy = opened.use(await startTcpProxy(Number(new URL(url).port)))
    const gateway = opened.use(
      await startGateway({
        settings: {
          TOLLGATE_DATABASE_URL: Object.assign(new URL(url), { port: proxy.port }).href,
          TOLLGATE_WORKERS: String(workers),
        },
        ...(dataDir === undefined ? {} : { dataDir }),
      }),
    )
    await gateway.publish(defaultSlug, upstream.baseUrl)
    const known = await gateway.customer({})
    const unknown = await gateway.customer({})
    await (await gateway.infer(known.key, chat())).text()
    assert.equal(await reachableGauge(gateway), 1)
    const parts = opened.move()
    return { url, proxy, gateway, known, unknown, [Symbol.asyncDispose]: () => parts.disposeAsync() }
  }

  /** Calls that must all be served; resolves with how many. */
  async function serves({ gateway, known }: Stage, count: number): Promise<number> {
    for (let call = 0; call < count; call += 1) {
      const response = await gateway.infer(known.key, chat())
      await response.text()
      assert.equal(response.status, 200)
    }
    return count
  }

  async function hasRecorded({ gateway, known, url }: Stage, count: number): Promise<void> {
    const events = await until(
      async () => {
        const found = await recordedEvents(gateway, known.prefix).catch(() => [])
        return found.length >= count && found
      },
      { withinMs: 20_000, everyMs: 100 },
    )
    assert.equal(events.length, count)
    assert.deepEqual(
      events.map(({ sequence }) => sequence),
      events.map((_, index) => index + 1),
    )
    await using database = await openPostgresDatabase({ url })
    assert.deepEqual(await Array.fromAsync(verifyLedger(database.queries)), [])
  }

  const loss = [
    ['is cut off', 'cut', 1_000],
    ['hangs', 'hang', 12_000],
  ] as const
  for (const [words, state, managementMs] of loss) {
    test(`${words} goes on serving the keys it knows, says what it cannot do, and loses no event`, async () => {
      await using stage = await openStage()
      const { gateway, proxy, unknown } = stage
      await using receiver = await startReceiver()
      await gateway.manage('POST', '/v1/gateway/webhooks', { url: receiver.url })
      let served = await serves(stage, 5)
      proxy[state]()
      served += await serves(stage, 20)
      await until(async () => (await health(gateway)).database === 'away')
      assert.equal((await health(gateway)).status, 'ready')

      const startedMs = performance.now()
      const refused = await gateway.infer(unknown.key, chat())
      const { error } = (await refused.json()) as { error: { code: string } }
      assert.deepEqual([refused.status, error.code], [503, 'service_unavailable'])
      assert.ok(performance.now() - startedMs < 3_000)

      const askedMs = performance.now()
      const answer = await fetch(`${gateway.management}/v1/gateway/groups`, {
        headers: { authorization: `Api-Key ${gateway.workspaceKey}` },
      })
      const { code, message } = (await answer.json()) as { code: string; message: string }
      assert.deepEqual([answer.status, code], [500, 'INTERNAL'])
      assert.match(message, /^The database does not answer/)
      assert.ok(performance.now() - askedMs < managementMs)
      assert.equal(await reachableGauge(gateway), 0)
      served += await serves(stage, 20)

      proxy.pass()
      await hasRecorded(stage, served + 1)
      await until(async () => (await health(gateway)).database === 'reachable')
      assert.equal((await (await gateway.infer(unknown.key, chat())).text()).length > 0, true)
      await until(() => receiver.posts.flatMap(({ events }) => events).length >= served, { withinMs: 45_000 })
    })
  }

  test('takes nothing more goes on serving, tells writers so, and records all when it takes again', async () => {
    await using stage = await openStage()
    const { gateway, url } = stage
    const name = new URL(url).pathname.slice(1)
    const admin = server.url('postgres')
    await runStatement(admin, `alter database "${name}" set default_transaction_read_only = on`)
    await runStatement(admin, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`)
    const served = await serves(stage, 20)
    await assert.rejects(gateway.customer({}), /answered 500.*The database does not answer at this moment, or takes/)
    await gateway.manage('GET', '/v1/gateway/groups')
    await runStatement(admin, `alter database "${name}" set default_transaction_read_only = off`)
    await runStatement(admin, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`)
    await hasRecorded(stage, served + 1)
    await gateway.customer({ externalEntityId: 'after' })
  })

  test('restarts goes on without a restart of its own', async () => {
    await using restarted = await startPostgres()
    await using stage = await openStage({ on: restarted })
    await restarted.stop()
    const served = await serves(stage, 10)
    await restarted.start()
    await hasRecorded(stage, served + 1)
    await stage.gateway.manage('GET', '/v1/gateway/groups')
  })

  test('is away keeps trying to replace a process that has died, and has done so soon after it is back', async () => {
    await using stage = await openStage({ workers: 2 })
    const [victim, survivor] = childProcesses()
    stage.proxy.cut()
    process.kill(Number(victim), 'SIGKILL')
    const replacement = () => childProcesses().find((pid) => pid !== victim && pid !== survivor)
    const failed = await until(replacement)
    await until(() => replacement() !== failed)
    stage.proxy.pass()
    await until(async () => {
      // A connection that the dead process had not accepted is reset.
      const status = async () => {
        const options = { headers: { connection: 'close' } }
        const response = await stage.gateway.infer(stage.known.key, chat(), options).catch(() => null)
        await response?.text()
        return response?.status
      }
      const statuses = await Promise.all(Array.from({ length: 10 }, status))
      return replacement() !== undefined && statuses.every((one) => one === 200)
    })
  })

  test('hangs stops in time all the same, and the next start ships what it has left', async () => {
    using folder = temporaryFolder()
    const stage = await openStage({ dataDir: folder.path })
    stage.proxy.hang()
    const served = await serves(stage, 5)
    const startedMs = performance.now()
    await stage[Symbol.asyncDispose]()
    assert.ok(performance.now() - startedMs < 20_000)
    await using next = await startGateway({
      dataDir: folder.path,
      settings: { TOLLGATE_DATABASE_URL: stage.url },
    })
    await hasRecorded({ ...stage, gateway: next }, served + 1)
  })

  test('has a workspace locked looks up the keys of its customers all the same, while its writers wait', async () => {
    await using stage = await openStage()
    const { gateway, unknown, url } = stage
    await using holder = await openPostgresDatabase({ url })
    const released = Promise.withResolvers<void>()
    const locked = Promise.withResolvers<void>()
    const holding = holder.transaction(async ({ queries }) => {
      await queries.updateTable('workspaces').set({ name: 'held' }).execute()
      locked.resolve()
      await released.promise
    })
    await locked.promise
    const writes = Array.from({ length: 30 }, () => gateway.customer({}).catch(() => null))
    await until(async () => {
      const { rows } = await sql<{ waiting: number }>`
        select count(*) as waiting from pg_stat_activity where wait_event_type = 'Lock'`.execute(holder.queries)
      return Number(rows[0]?.waiting) >= 8
    })
    const response = await gateway.infer(unknown.key, chat())
    await response.text()
    assert.equal(response.status, 200)
    released.resolve()
    await holding
    await Promise.all(writes)
  })

  test('is away at the start says so in a sentence', async () => {
    for (const [url, words] of [
      [
        'postgres://postgres@127.0.0.1:1/tollgate',
        /^The database 127\.0\.0\.1:1\/tollgate of TOLLGATE_DATABASE_URL cannot be used: connect ECONNREFUSED/,
      ],
      [
        'postgres://postgres@localhost:1/tollgate',
        /^The database localhost:1\/tollgate of TOLLGATE_DATABASE_URL cannot be used: .*ECONNREFUSED/,
      ],
      [server.url('nowhere'), /cannot be used: database "nowhere" does not exist\.$/],
    ] as const) {
      await assert.rejects(startGateway({ settings: { TOLLGATE_DATABASE_URL: url } }), {
        name: 'StartError',
        message: words,
      })
    }
  })
})

async function health({ management }: Gateway): Promise<{ status: string; database: string }> {
  const answer = await fetch(`${management}/health/ready`)
  return (await answer.json()) as { status: string; database: string }
}

async function reachableGauge({ management, workspaceKey }: Gateway): Promise<number> {
  const answer = await fetch(`${management}/metrics`, { headers: { authorization: `Api-Key ${workspaceKey}` } })
  assert.equal(answer.status, 200)
  return Number(/^tollgate_database_reachable (\d)$/m.exec(await answer.text())?.[1])
}
