import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Workspaces and what they own, and the ledger. */
export const firstTables: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database

    await schema
      .createTable('workspaces')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('onboarded', 'integer', (column) => column.notNull())
      .addColumn('org_prefixes', 'text', (column) => column.notNull())
      .addColumn('key_prefix', 'text', (column) => column.notNull())
      .addColumn('register_public_key', 'text')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .execute()

    await schema
      .createTable('workspace_keys')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('prefix', 'text', (column) => column.notNull().unique())
      .addColumn('hash', 'text', (column) => column.notNull().unique())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('type', 'text', (column) => column.notNull())
      .addColumn('name', 'text')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('revoked_at', 'bigint')
      .execute()

    await schema
      .createTable('models')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('environments', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .execute()
    await schema.createIndex('models_by_workspace').on('models').columns(['workspace_id', 'id']).execute()

    await schema
      .createTable('secrets')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('sealed_value', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .addUniqueConstraint('secrets_by_name', ['workspace_id', 'name'])
      .execute()

    await schema
      .createTable('endpoints')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('slug', 'text', (column) => column.notNull().unique())
      .addColumn('region', 'text', (column) => column.notNull())
      .addColumn('targets', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .execute()
    await schema.createIndex('endpoints_by_workspace').on('endpoints').columns(['workspace_id', 'id']).execute()

    await schema
      .createTable('groups')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('external_entity_id', 'text', (column) => column.notNull())
      .addColumn('name', 'text')
      .addColumn('parent_group_id', 'text', (column) => column.references('groups.id').onDelete('cascade'))
      .addColumn('path', 'text', (column) => column.notNull())
      .addColumn('limit_enforcement', 'text', (column) => column.notNull())
      .addColumn('models', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addUniqueConstraint('groups_by_external_entity_id', ['workspace_id', 'external_entity_id'])
      .execute()
    await schema.createIndex('groups_by_workspace').on('groups').columns(['workspace_id', 'id']).execute()
    await schema.createIndex('groups_by_parent').on('groups').column('parent_group_id').execute()

    // A key outlives its group, revoked: its prefix stands in the record and is never given out again.
    await schema
      .createTable('federated_keys')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('prefix', 'text', (column) => column.notNull().unique())
      .addColumn('hash', 'text', (column) => column.notNull().unique())
      .addColumn('workspace_id', 'text', (column) => column.notNull().references('workspaces.id').onDelete('cascade'))
      .addColumn('group_id', 'text', (column) => column.notNull())
      .addColumn('name', 'text')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('expires_at', 'bigint')
      .addColumn('revoked_at', 'bigint')
      .execute()
    await schema.createIndex('federated_keys_by_group').on('federated_keys').columns(['group_id', 'id']).execute()

    await schema
      .createTable('events')
      .addColumn('idempotency_key', 'text', (column) => column.primaryKey())
      .addColumn('workspace_id', 'text', (column) => column.notNull())
      .addColumn('position', 'bigint', (column) => column.notNull())
      .addColumn('sequence', 'bigint')
      .addColumn('request_id', 'text', (column) => column.notNull())
      .addColumn('recorded_at', 'bigint', (column) => column.notNull())
      .addColumn('admitted_at', 'bigint', (column) => column.notNull())
      .addColumn('request_metadata', 'text')
      .addColumn('model_slug', 'text', (column) => column.notNull())
      .addColumn('api_key_prefix', 'text', (column) => column.notNull())
      .addColumn('group_id', 'text')
      .addColumn('external_entity_id', 'text')
      .addColumn('counted_groups', 'text', (column) => column.notNull())
      .addColumn('input_tokens', 'bigint', (column) => column.notNull())
      .addColumn('output_tokens', 'bigint', (column) => column.notNull())
      .addColumn('cached_input_tokens', 'bigint', (column) => column.notNull())
      .addColumn('outcome', 'text', (column) => column.notNull())
      .addColumn('usage_source', 'text', (column) => column.notNull())
      .addUniqueConstraint('events_by_position', ['workspace_id', 'position'])
      .execute()

    await schema
      .createTable('usage_daily')
      .addColumn('workspace_id', 'text', (column) => column.notNull())
      .addColumn('day', 'text', (column) => column.notNull())
      .addColumn('group_id', 'text', (column) => column.notNull())
      .addColumn('slug', 'text', (column) => column.notNull())
      .addColumn('requests', 'bigint', (column) => column.notNull())
      .addColumn('input_tokens', 'bigint', (column) => column.notNull())
      .addColumn('output_tokens', 'bigint', (column) => column.notNull())
      .addColumn('cached_input_tokens', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('usage_daily_key', ['day', 'group_id', 'slug'])
      .execute()

    await schema
      .createTable('ledger_heads')
      .addColumn('workspace_id', 'text', (column) => column.primaryKey())
      .addColumn('position', 'bigint', (column) => column.notNull())
      .addColumn('sequence', 'bigint', (column) => column.notNull())
      .execute()

    await schema
      .createTable('event_spans')
      .addColumn('workspace_id', 'text', (column) => column.notNull())
      .addColumn('started_at', 'bigint', (column) => column.notNull())
      .addColumn('first_position', 'bigint', (column) => column.notNull())
      .addColumn('last_position', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('event_spans_key', ['workspace_id', 'started_at'])
      .execute()
  },
}
