import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { eventLoopTurn } from '../../src/ledger/event-loop-turn.ts'
import { openEmbeddedDatabase } from '../../src/storage/database.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const head = { workspace_id: 'workspace-a', position: 0, sequence: 0 }

test("a query waits for another connection's transaction while the event loop goes on", async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'tollgate.db')
  await using database = await openEmbeddedDatabase(path)
  using other = new DatabaseSync(path)
  other.exec('BEGIN IMMEDIATE')
  const startedMs = systemClock.monotonic()
  let isWritten = false
  const written = database.queries.insertInto('ledger_heads').values(head).execute()
  written.then(
    () => {
      isWritten = true
    },
    () => {},
  )
  for (let turns = 0; turns < 50; turns += 1) await eventLoopTurn()
  assert.ok(systemClock.monotonic() - startedMs < 1_000)
  assert.equal(isWritten, false)
  other.exec('COMMIT')
  await written
})

test('a transaction that reads before it writes does not fail because another connection wrote', async () => {
  using folder = temporaryFolder()
  const path = join(folder.path, 'tollgate.db')
  await using one = await openEmbeddedDatabase(path)
  await using other = await openEmbeddedDatabase(path)
  await one.queries.insertInto('ledger_heads').values(head).execute()
  const increment = (database: typeof one) =>
    database.transaction(async ({ queries }) => {
      const { position } = await queries.selectFrom('ledger_heads').select('position').executeTakeFirstOrThrow()
      await eventLoopTurn()
      await queries
        .updateTable('ledger_heads')
        .set({ position: position + 1 })
        .execute()
    })
  await Promise.all(Array.from({ length: 10 }, (_, index) => increment(index % 2 === 0 ? one : other)))
  const { position } = await other.queries.selectFrom('ledger_heads').select('position').executeTakeFirstOrThrow()
  assert.equal(position, 10)
})

test('the embedded database is readable by its owner alone', async () => {
  using folder = temporaryFolder()
  await using database = await openEmbeddedDatabase(join(folder.path, 'tollgate.db'))
  await database.queries.insertInto('ledger_heads').values(head).execute()
  for (const name of ['tollgate.db', 'tollgate.db-wal']) {
    assert.equal(statSync(join(folder.path, name)).mode & 0o777, 0o600, name)
  }
})
