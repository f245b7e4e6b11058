import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** The daily usage by the process that counted it, so that counters which several nodes share can be rebuilt from it. */
export const usageByNode: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database
    // SQLite cannot change a primary key.
    await schema
      .createTable('usage_daily_by_node')
      .addColumn('workspace_id', 'text', (column) => column.notNull())
      .addColumn('day', 'text', (column) => column.notNull())
      .addColumn('group_id', 'text', (column) => column.notNull())
      .addColumn('slug', 'text', (column) => column.notNull())
      .addColumn('node', 'text', (column) => column.notNull())
      .addColumn('requests', 'bigint', (column) => column.notNull())
      .addColumn('input_tokens', 'bigint', (column) => column.notNull())
      .addColumn('output_tokens', 'bigint', (column) => column.notNull())
      .addColumn('cached_input_tokens', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('usage_daily_by_node_key', ['day', 'group_id', 'slug', 'node'])
      .execute()
    await sql`
      insert into usage_daily_by_node
        (workspace_id, day, group_id, slug, node, requests, input_tokens, output_tokens, cached_input_tokens)
      select workspace_id, day, group_id, slug, '', requests, input_tokens, output_tokens, cached_input_tokens
      from usage_daily`.execute(database)
    await schema.dropTable('usage_daily').execute()
    await schema.alterTable('usage_daily_by_node').renameTo('usage_daily').execute()
  },
}
