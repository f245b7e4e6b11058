import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** The groups below one can be read a few at a time, in the order of their ids. */
export const childrenInOrder: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    const { schema } = database
    await schema.dropIndex('groups_by_parent').execute()
    await schema.createIndex('groups_by_parent').on('groups').columns(['parent_group_id', 'id']).execute()
  },
}
