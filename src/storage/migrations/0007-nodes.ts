import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** What several nodes on one database need: locks that they share, and word of one another's changes. */
export const nodes: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database
    await schema
      .createTable('locks')
      .addColumn('name', 'text', (column) => column.primaryKey())
      .addColumn('times', 'bigint', (column) => column.notNull())
      .execute()
    await sql`insert into locks (name, times) values ('names', 0), ('changes', 0)`.execute(database)

    await schema
      .createTable('changes')
      .addColumn('id', 'bigint', (column) => column.primaryKey())
      .addColumn('stamp', 'text', (column) => column.notNull())
      .addColumn('change', 'text', (column) => column.notNull())
      .execute()
  },
}
