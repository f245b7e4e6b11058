import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Keys narrowed to some slugs, successors of rotated keys, and the labs' own domains. */
export const customers: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database
    await schema.alterTable('federated_keys').addColumn('slugs', 'text').execute()
    await schema.alterTable('federated_keys').addColumn('successor_prefix', 'text').execute()
    await schema
      .createTable('domains')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('hostname', 'text', (column) => column.notNull().unique())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .execute()
    await schema.createIndex('domains_by_workspace').on('domains').columns(['workspace_id', 'id']).execute()
  },
}
