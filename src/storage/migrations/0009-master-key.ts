import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Something encrypted under the master key, by which a node can tell that it has the right one. */
export const masterKey: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema
      .createTable('master_key_proofs')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('sealed_proof', 'text', (column) => column.notNull())
      .execute()
  },
}
