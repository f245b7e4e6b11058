import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from 'kysely'
import { Migrator } from 'kysely/migration'
import { eventOfText, eventText } from '../../src/ledger/event-text.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { verifyLedger } from '../../src/ledger/verify.ts'
import { Database } from '../../src/storage/database.ts'
import { migrations } from '../../src/storage/migrations/index.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { nodeSqliteDialect } from '../../src/storage/sqlite-dialect.ts'
import { dayTokensMax } from '../../src/token-bounds.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { sampleEvent } from './sample-event.ts'

const day = '2026-01-15'
const slug = 'acme/large'

test('the usage of a day stands by the process that counted it, in whole counters a page', async () => {
  await using opened = await openLedgerWithTree()
  const { ledger } = opened
  const counted = (node: string, countedGroups: string[]) => sampleEvent({ node, countedGroups })
  await ledger.write([counted('', ['leaf', 'root']), counted('a', ['leaf', 'root']), counted('b', ['root'])])
  await ledger.write([counted('a', ['root']), counted('a', ['elsewhere'])])

  const all = (await Array.fromAsync(ledger.usageOfDay(day))).flat()
  const lines = all.map(({ hierarchy, owner, node, requests }) => `${hierarchy} ${owner} ${node}: ${requests}`)
  assert.deepEqual(lines, [
    'elsewhere elsewhere a: 1',
    'root leaf : 1',
    'root leaf a: 1',
    'root root : 1',
    'root root a: 2',
    'root root b: 1',
  ])
  const tree = await ledger.usageOfHierarchy({ day, hierarchy: 'root' })
  const inTree = all.filter(({ hierarchy }) => hierarchy === 'root')
  const byName = (rows: typeof tree) => new Map(rows.map((row) => [`${row.owner} ${row.node}`, row]))
  assert.deepEqual(byName(tree), byName(inTree))
  assert.deepEqual(await ledger.usageOfHierarchy({ day: '2026-01-14', hierarchy: 'root' }), [])
})

test('a counter that more processes counted than a page holds comes in one page', async () => {
  await using opened = await openLedgerWithTree()
  const events = Array.from({ length: 1_200 }, (_, index) =>
    sampleEvent({ node: `n${index}`, countedGroups: ['root'] }),
  )
  await opened.ledger.write([...events, sampleEvent({ countedGroups: ['z'] })])
  const pages = await Array.fromAsync(opened.ledger.usageOfDay(day))
  assert.deepEqual(
    pages.map((page) => page.length),
    [1_200, 1],
  )
})

test('verify holds the sum over the processes against the events', async () => {
  await using opened = await openLedgerWithTree()
  await opened.ledger.write(['a', 'b', 'a'].map((node) => sampleEvent({ node })))
  assert.deepEqual(await Array.fromAsync(verifyLedger(opened.database.queries)), [])
  await sql`update usage_daily set requests = requests + 1 where node = 'b'`.execute(opened.database.queries)
  const [found, ...more] = await Array.fromAsync(verifyLedger(opened.database.queries))
  assert.match(String(found?.what), /^usage of/)
  assert.deepEqual(more, [])
})

test('an event that an earlier version left in the journal counts for no process by name', () => {
  const { node: _node, ...event } = sampleEvent()
  const [, ...fields] = JSON.parse(eventText({ ...event, node: 'a' }))
  const ofFormOne = JSON.stringify([1, ...fields.slice(0, -1)])
  assert.deepEqual(eventOfText(ofFormOne), { ...event, node: '' })
  assert.throws(() => eventOfText(JSON.stringify([3, ...fields])), /form 3; this version reads 1, 2/)
})

test('the usage of days before processes had names keeps its figures', async () => {
  using folder = temporaryFolder()
  await using database = new Database(
    nodeSqliteDialect(openSqliteFile(`${folder.path}/tollgate.db`, { synchronous: 'normal' })),
  )
  const { queries } = database
  const migrator = new Migrator({ db: queries, provider: { getMigrations: async () => migrations } })
  await migrator.migrateTo('0007-nodes')
  await sql`insert into usage_daily values ('w', ${day}, 'root', ${slug}, 3, 30, 20, 10)`.execute(queries)
  await database.migrate()
  assert.deepEqual(
    (await queries.selectFrom('usage_daily').selectAll().execute()).map((row) => ({ ...row })),
    [
      {
        workspace_id: 'w',
        day,
        group_id: 'root',
        slug,
        node: '',
        requests: 3,
        input_tokens: 30,
        output_tokens: 20,
        cached_input_tokens: 10,
      },
    ],
  )
})

test('a day whose sums could not be read, from before counts had a bound, can be', async () => {
  using folder = temporaryFolder()
  await using database = new Database(
    nodeSqliteDialect(openSqliteFile(`${folder.path}/tollgate.db`, { synchronous: 'normal' })),
  )
  const { queries } = database
  const migrator = new Migrator({ db: queries, provider: { getMigrations: async () => migrations } })
  await migrator.migrateTo('0009-master-key')
  const huge = sql`9007199254740991 * 1000`
  await sql`insert into usage_daily values ('w', ${day}, 'root', ${slug}, '', 3, ${huge}, ${huge} * 1000, 10)`.execute(
    queries,
  )
  await database.migrate()
  const [[usage] = []] = await Array.fromAsync(openLedger({ database }).usageOfDay(day))
  assert.deepEqual([usage?.requests, usage?.tokens], [3, 2 * dayTokensMax])
})

async function openLedgerWithTree() {
  await using opened = new AsyncDisposableStack()
  const folder = opened.use(temporaryFolder())
  const database = opened.use(await openTestDatabase(folder.path))
  const { queries } = database
  await queries
    .insertInto('workspaces')
    .values({
      id: 'workspace-a',
      name: 'a',
      onboarded: 1,
      org_prefixes: '[]',
      key_prefix: 'tk_',
      register_public_key: null,
      created_at: 0,
    })
    .execute()
  for (const path of ['root', 'leaf/root']) {
    const [id = '', parent_group_id = null] = path.split('/')
    await queries
      .insertInto('groups')
      .values({
        id,
        workspace_id: 'workspace-a',
        external_entity_id: id,
        name: null,
        parent_group_id,
        path,
        limit_enforcement: 'CASCADING',
        models: '[]',
        created_at: 0,
      })
      .execute()
  }
  const parts = opened.move()
  return { database, ledger: openLedger({ database }), [Symbol.asyncDispose]: () => parts.disposeAsync() }
}
