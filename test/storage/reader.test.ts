import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newId } from '../../src/id.ts'
import { openDatabase, openReader } from '../../src/storage/open-database.ts'
import { temporaryFolder } from '../ledger/temporary-folder.ts'
import { databaseSettings } from '../support/database-backends.ts'

test('what was committed can be read while a transaction is under way, and what that commits right after it', async () => {
  using folder = temporaryFolder()
  const environment = await databaseSettings(folder.path)
  const settings = { databaseUrl: environment['TOLLGATE_DATABASE_URL'] ?? null, dataDir: folder.path }
  await using database = await openDatabase(settings)
  await using ownReader = openReader(settings)
  const { queries } = ownReader ?? database
  const names = async () => {
    const rows = await queries.selectFrom('workspaces').select('name').execute()
    return rows.map(({ name }) => name)
  }

  const lab = { id: newId(0), name: 'lab', onboarded: 1, org_prefixes: '[]', key_prefix: 'lab', created_at: 0 } as const
  await database.transaction(async ({ queries }) => {
    await queries
      .insertInto('workspaces')
      .values({ ...lab, register_public_key: null })
      .execute()
    assert.deepEqual(await names(), [])
  })
  assert.deepEqual(await names(), ['lab'])
})
