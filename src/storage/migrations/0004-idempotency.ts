import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** The first answers to requests that may be sent again. */
export const idempotency: Migration = {
  async up({ schema }: Kysely<unknown>): Promise<void> {
    await schema
      .createTable('idempotent_answers')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('request_hash', 'text', (column) => column.notNull())
      .addColumn('sealed_answer', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .execute()
    await schema.createIndex('idempotent_answers_by_age').on('idempotent_answers').column('created_at').execute()
  },
}
