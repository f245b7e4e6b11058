import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase, openReader } from '../../src/storage/open-database.ts'
import { databaseSettings } from '../support/database-backends.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('what was committed can be read while a transaction is under way, and what that commits right after it', async () => {
  using folder = temporaryFolder()
  const environment = await databaseSettings(folder.path)
  const settings = { databaseUrl: environment['TOLLGATE_DATABASE_URL'] ?? null, dataDir: folder.path }
  await using database = await openDatabase(settings)
  await using ownReader = openReader(settings)
  const { queries } = ownReader ?? database
  const workspaceIds = async () => {
    const rows = await queries.selectFrom('ledger_heads').select('workspace_id').execute()
    return rows.map(({ workspace_id }) => workspace_id)
  }

  await database.transaction(async (transaction) => {
    const head = { workspace_id: 'lab', position: 0, sequence: 0 }
    await transaction.queries.insertInto('ledger_heads').values(head).execute()
    assert.deepEqual(await workspaceIds(), [])
  })
  assert.deepEqual(await workspaceIds(), ['lab'])
})
