import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Where each workspace's record begins, once retention has removed events. */
export const retention: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .createTable('ledger_beginnings')
      .addColumn('workspace_id', 'text', (column) => column.primaryKey())
      .addColumn('position', 'bigint', (column) => column.notNull())
      .addColumn('sequence', 'bigint', (column) => column.notNull())
      .addColumn('day', 'text', (column) => column.notNull())
      .execute()
  },
}
