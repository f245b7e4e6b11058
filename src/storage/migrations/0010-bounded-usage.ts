import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** The bound at the time of this migration: `dayTokensMax`. */
const max = sql.lit(2 ** 52 - 1)

/** Sums of a day that cannot be read exactly: upstreams could report counts of any size. */
export const boundedUsage: Migration = {
  async up(database: Kysely<unknown>): Promise<void> {
    for (const name of ['input_tokens', 'output_tokens', 'cached_input_tokens']) {
      const column = sql.ref(name)
      await sql`update usage_daily set ${column} = ${max} where ${column} > ${max}`.execute(database)
    }
  },
}
