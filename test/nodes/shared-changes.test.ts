import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { openLog } from '../../src/log.ts'
import { type Change, ChangeLog } from '../../src/storage/change-log.ts'
import type { Database } from '../../src/storage/database.ts'
import { openPostgresDatabase } from '../../src/storage/postgres.ts'
import { type ChangeFollower, followChanges, keepChange } from '../../src/storage/shared-changes.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { until } from '../support/until.ts'

/** A second within which every change must hold, and nobody asks for it by name. */
const withinMs = 1_000

describe('a node that follows the changes of others', () => {
  let server: PostgresServer
  let databases = 0

  before(async () => {
    server = await startPostgres()
  })
  after(() => server[Symbol.asyncDispose]())

  interface Stage extends AsyncDisposable {
    database: Database
    proxy: TcpProxy
    follower: ChangeFollower
    /** What the follower has heard of. */
    heard: Change[]
    reachable: boolean[]
    /** Makes changes as another node does, in one transaction. */
    change(...changes: Change[]): Promise<void>
  }

  async function openStage({ listens = true }: { listens?: boolean } = {}): Promise<Stage> {
    await using opened = new AsyncDisposableStack()
    databases += 1
    const name = `changes_${databases}`
    await server.create(name)
    const url = server.url(name)
    const database = opened.use(await openPostgresDatabase({ url }))
    const proxy = opened.use(await startTcpProxy(Number(new URL(url).port)))
    const heard: Change[] = []
    const reachable: boolean[] = []
    const changeLog = new ChangeLog()
    changeLog.subscribe((change) => {
      heard.push(change)
    })
    const follower = opened.use(
      await followChanges({
        url: Object.assign(new URL(url), { port: proxy.port }).href,
        changeLog,
        clock: systemClock,
        log: openLog({ level: 'silent' }),
        metrics: { databaseReachable: (isReachable) => reachable.push(isReachable) },
        listens,
      }),
    )
    const others = new ChangeLog({ keep: keepChange })
    const parts = opened.move()
    return {
      database,
      proxy,
      follower,
      heard,
      reachable,
      change: (...changes) =>
        database.transaction(async (transaction) => {
          for (const change of changes) others.record(transaction, change)
        }),
      [Symbol.asyncDispose]: () => parts.disposeAsync(),
    }
  }

  const key = (hash: string): Change => ({ kind: 'key', hash })
  const hashes = ({ heard }: Stage) => heard.map((change) => (change.kind === 'key' ? change.hash : change.kind))

  test('hears of each change once, in the order of the commits', async () => {
    await using stage = await openStage()
    await stage.change(key('a'), key('b'))
    await stage.change(key('c'))
    await until(() => stage.heard.length >= 3, { withinMs })
    assert.deepEqual(hashes(stage), ['a', 'b', 'c'])
  })

  test('hears of a change in time when every notification is lost', async () => {
    await using stage = await openStage({ listens: false })
    await stage.change(key('a'))
    await until(() => stage.heard.length === 1, { withinMs })
  })

  test('misses none of many transactions that overlap, however long some of them take', async () => {
    await using stage = await openStage()
    const writers = Array.from({ length: 60 }, (_, index) =>
      stage.database.transaction(async (transaction) => {
        if (index % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 30))
        new ChangeLog({ keep: keepChange }).record(transaction, key(String(index)))
      }),
    )
    await Promise.all(writers)
    await stage.follower.catchUp()
    assert.deepEqual(hashes(stage).toSorted(), Array.from({ length: 60 }, (_, index) => String(index)).toSorted())
  })

  test('hears of nothing that was rolled back', async () => {
    await using stage = await openStage()
    const failing = stage.database.transaction(async (transaction) => {
      new ChangeLog({ keep: keepChange }).record(transaction, key('never'))
      throw new Error('no')
    })
    await assert.rejects(failing, /^Error: no$/)
    await stage.change(key('a'))
    await until(() => stage.heard.length === 1, { withinMs })
    assert.deepEqual(hashes(stage), ['a'])
  })

  for (const [loss, words] of [
    ['cut', 'its connection is cut'],
    ['hang', 'the database hangs'],
  ] as const) {
    test(`says that it is not current while ${words}, and catches up when it is back`, async () => {
      await using stage = await openStage()
      await stage.change(key('a'))
      await until(() => stage.heard.length === 1, { withinMs })
      stage.proxy[loss]()
      await until(() => !stage.follower.isCurrent)
      assert.equal(stage.reachable.at(-1), false)
      await stage.change(key('b'), key('c'))
      await assert.rejects(stage.follower.catchUp())
      assert.deepEqual(hashes(stage), ['a'])
      stage.proxy.pass()
      await until(() => stage.heard.length === 3)
      await until(() => stage.follower.isCurrent)
      assert.deepEqual(hashes(stage), ['a', 'b', 'c'])
    })
  }

  test('drops everything where more was missed than is kept', async () => {
    await using stage = await openStage()
    await stage.change(key('a'))
    await until(() => stage.heard.length === 1, { withinMs })
    stage.proxy.cut()
    await until(() => !stage.follower.isCurrent)
    await stage.change(key('b'), key('c'), key('d'))
    await stage.database.queries.deleteFrom('changes').where('id', '<', 4).execute()
    stage.proxy.pass()
    await until(() => stage.heard.length === 2)
    assert.deepEqual(hashes(stage), ['a', 'everything'])
    await stage.change(key('e'))
    await until(() => stage.heard.length === 3, { withinMs })
  })

  test('drops everything where the database was set back and went on another way', async () => {
    await using stage = await openStage()
    await stage.change(key('a'))
    await stage.change(key('b'))
    await until(() => stage.heard.length === 2, { withinMs })
    const { queries } = stage.database
    stage.proxy.cut()
    await until(() => !stage.follower.isCurrent)
    await queries.deleteFrom('changes').where('id', '=', 2).execute()
    await queries.updateTable('locks').set({ times: 1 }).where('name', '=', 'changes').execute()
    await stage.change(key('other'))
    stage.proxy.pass()
    await until(() => stage.heard.length === 3)
    assert.deepEqual(hashes(stage), ['a', 'b', 'everything'])
  })

  test('keeps the newest changes only', async () => {
    await using stage = await openStage()
    const { queries } = stage.database
    await queries.updateTable('locks').set({ times: 10_099 }).where('name', '=', 'changes').execute()
    await queries
      .insertInto('changes')
      .values(Array.from({ length: 300 }, (_, index) => ({ id: index + 1, stamp: 's', change: '{}' })))
      .execute()
    await stage.change(key('a'))
    const { oldest } = await queries
      .selectFrom('changes')
      .select((eb) => eb.fn.min('id').as('oldest'))
      .executeTakeFirstOrThrow()
    assert.equal(oldest, 101)
  })
})
