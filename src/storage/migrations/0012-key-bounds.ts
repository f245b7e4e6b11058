import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** The role beyond which a personal key does not rise with its person, where somebody of that role minted it. */
export const keyBounds: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    await database.schema.alterTable('workspace_keys').addColumn('role_bound', 'text').execute()
  },
}
