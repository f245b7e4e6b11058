import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { newId } from '../../id.ts'

/** Teams, people, what keys are bound to and when they were last used, and the audit log. */
export const identity: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database

    await schema
      .createTable('teams')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('is_default', 'integer', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addUniqueConstraint('teams_by_name', ['workspace_id', 'name'])
      .execute()

    await schema
      .createTable('people')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('email', 'text')
      .addColumn('name', 'text')
      .addColumn('role', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addUniqueConstraint('people_by_email', ['workspace_id', 'email'])
      .execute()

    await addFirstTeamsAndOwners(database)

    // A key outlives its team and its person, revoked: its prefix stands in the record and is never given out again.
    await schema.alterTable('workspace_keys').addColumn('team_id', 'text').execute()
    await schema.alterTable('workspace_keys').addColumn('person_id', 'text').execute()
    await schema.alterTable('workspace_keys').addColumn('model_ids', 'text').execute()
    await schema.alterTable('workspace_keys').addColumn('environments', 'text').execute()
    await schema.alterTable('workspace_keys').addColumn('last_used_at', 'bigint').execute()
    await schema
      .createIndex('workspace_keys_by_workspace')
      .on('workspace_keys')
      .columns(['workspace_id', 'id'])
      .execute()
    await schema.alterTable('federated_keys').addColumn('last_used_at', 'bigint').execute()

    await giveSecretsTeams(database)

    // Outlives its workspace, like the billing record.
    await schema
      .createTable('audit_logs')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('event_type', 'text', (column) => column.notNull())
      .addColumn('event_data', 'text', (column) => column.notNull())
      .addColumn('search_text', 'text', (column) => column.notNull())
      .addColumn('actor_type', 'text', (column) => column.notNull())
      .addColumn('actor_key_prefix', 'text')
      .addColumn('actor_key_name', 'text')
      .addColumn('actor_person_id', 'text')
      .addColumn('actor_email', 'text')
      .addColumn('source', 'text', (column) => column.notNull())
      .addColumn('client_name', 'text')
      .addColumn('client_version', 'text')
      .execute()
    await schema.createIndex('audit_logs_by_workspace').on('audit_logs').columns(['workspace_id', 'id']).execute()
  },
}

async function addFirstTeamsAndOwners(database: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ id: string; created_at: number }>`select id, created_at from workspaces`.execute(
    database,
  )
  for (const { id, created_at } of rows) {
    await sql`
      insert into teams (id, workspace_id, name, is_default, created_at)
      values (${newId(created_at)}, ${id}, 'Default', 1, ${created_at})`.execute(database)
    await sql`
      insert into people (id, workspace_id, role, created_at)
      values (${newId(created_at)}, ${id}, 'owner', ${created_at})`.execute(database)
  }
}

/** By a new table: SQLite adds no column that must have a value to one that has rows. */
async function giveSecretsTeams(database: Kysely<unknown>): Promise<void> {
  const { schema } = database
  await schema
    .createTable('secrets_of_teams')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
    .addColumn('team_id', 'text', (column) => column.notNull().references('teams.id'))
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('sealed_value', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('updated_at', 'bigint', (column) => column.notNull())
    .addUniqueConstraint('secrets_by_workspace_and_name', ['workspace_id', 'name'])
    .execute()
  await sql`
    insert into secrets_of_teams (id, workspace_id, team_id, name, sealed_value, created_at, updated_at)
    select secrets.id, secrets.workspace_id, teams.id, secrets.name, sealed_value, secrets.created_at, updated_at
    from secrets inner join teams on teams.workspace_id = secrets.workspace_id`.execute(database)
  await schema.dropTable('secrets').execute()
  await schema.alterTable('secrets_of_teams').renameTo('secrets').execute()
}
