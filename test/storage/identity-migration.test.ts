import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { sql } from 'kysely'
import { Migrator } from 'kysely/migration'
import { Database } from '../../src/storage/database.ts'
import { migrations } from '../../src/storage/migrations/index.ts'
import { openSqliteFile } from '../../src/storage/sqlite.ts'
import { nodeSqliteDialect } from '../../src/storage/sqlite-dialect.ts'

test('a workspace from before there were teams gets its default team, its account, and its secrets into that team', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-migration-'))
  try {
    const file = openSqliteFile(join(folder, 'tollgate.db'), { synchronous: 'normal' })
    await using database = new Database(nodeSqliteDialect(file))
    const { queries } = database
    const migrator = new Migrator({ db: queries, provider: { getMigrations: async () => migrations } })
    await migrator.migrateTo('0002-webhooks')
    for (const id of ['one', 'two']) {
      await sql`insert into workspaces values (${id}, ${id}, 1, '[]', 'tk_', null, 1000)`.execute(queries)
      await sql`insert into secrets values (${`secret-${id}`}, ${id}, 'hf', 'sealed', 1000, 2000)`.execute(queries)
    }
    await database.migrate()

    const secrets = await queries
      .selectFrom('secrets')
      .innerJoin('teams', 'teams.id', 'secrets.team_id')
      .selectAll('secrets')
      .select(['teams.name as team_name', 'teams.is_default', 'teams.workspace_id as team_workspace_id'])
      .orderBy('secrets.id')
      .execute()
    assert.deepEqual(
      secrets.map(({ team_id, ...secret }) => ({ ...secret, hasTeam: team_id !== '' })),
      ['one', 'two'].map((workspace_id) => ({
        id: `secret-${workspace_id}`,
        workspace_id,
        name: 'hf',
        sealed_value: 'sealed',
        created_at: 1000,
        updated_at: 2000,
        team_name: 'Default',
        is_default: 1,
        team_workspace_id: workspace_id,
        hasTeam: true,
      })),
    )
    const people = await queries
      .selectFrom('people')
      .select(['workspace_id', 'email', 'role'])
      .orderBy('workspace_id')
      .execute()
    assert.deepEqual(
      people.map((person) => ({ ...person })),
      ['one', 'two'].map((workspace_id) => ({ workspace_id, email: null, role: 'owner' })),
    )
    await queries.deleteFrom('workspaces').where('id', '=', 'one').execute()
    assert.equal((await queries.selectFrom('secrets').select('id').execute()).length, 1)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
