import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Webhooks and their deliveries. */
export const webhooks: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database

    await schema
      .createTable('webhooks')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('url', 'text', (column) => column.notNull())
      .addColumn('retry_window_seconds', 'integer', (column) => column.notNull())
      .addColumn('sealed_secret', 'text', (column) => column.notNull())
      .addColumn('sealed_previous_secret', 'text')
      .addColumn('previous_secret_until', 'bigint')
      .addColumn('position', 'bigint', (column) => column.notNull())
      .addColumn('sequence', 'bigint')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .addColumn('deleted_at', 'bigint')
      .execute()
    await schema.createIndex('webhooks_by_workspace').on('webhooks').columns(['workspace_id', 'id']).execute()

    await schema
      .createTable('webhook_deliveries')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('webhook_id', 'text', (column) => column.notNull().references('webhooks.id').onDelete('cascade'))
      .addColumn('workspace_id', 'text', (column) => column.notNull())
      .addColumn('request_id', 'text', (column) => column.notNull())
      .addColumn('status', 'text', (column) => column.notNull())
      .addColumn('first_position', 'bigint', (column) => column.notNull())
      .addColumn('last_position', 'bigint', (column) => column.notNull())
      .addColumn('first_sequence', 'bigint', (column) => column.notNull())
      .addColumn('last_sequence', 'bigint', (column) => column.notNull())
      .addColumn('first_recorded_at', 'bigint', (column) => column.notNull())
      .addColumn('last_recorded_at', 'bigint', (column) => column.notNull())
      .addColumn('attempts', 'integer', (column) => column.notNull())
      .addColumn('first_attempt_at', 'bigint')
      .addColumn('last_attempt_at', 'bigint')
      .addColumn('next_attempt_at', 'bigint')
      .addColumn('claimed_until', 'bigint')
      .addColumn('response_status', 'integer')
      .addColumn('error', 'text')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('finished_at', 'bigint')
      .execute()

    // What lists read, in the order in which they show it.
    await schema
      .createIndex('webhook_deliveries_by_webhook')
      .on('webhook_deliveries')
      .columns(['webhook_id', 'id'])
      .execute()
    await schema
      .createIndex('webhook_deliveries_by_status')
      .on('webhook_deliveries')
      .columns(['webhook_id', 'status', 'id'])
      .execute()
    // What is due; holds pending deliveries only, however many have been delivered.
    await schema
      .createIndex('webhook_deliveries_pending')
      .on('webhook_deliveries')
      .columns(['webhook_id', 'next_attempt_at'])
      .where(sql.ref('status'), '=', 'pending')
      .execute()
    // How a redelivery finds a window of time.
    await schema
      .createIndex('webhook_deliveries_by_time')
      .on('webhook_deliveries')
      .columns(['webhook_id', 'last_recorded_at', 'id'])
      .execute()
  },
}
