import type { Queries } from '../storage/database.ts'

/** What counts towards a group's daily limits of one slug. */
export interface DayUsage {
  /** The group whose counters these are. */
  owner: string
  slug: string
  requests: number
  /** Input and output tokens. */
  tokens: number
}

const pageRows = 1_000

/** The roll-up of one UTC day, `YYYY-MM-DD`, a page at a time. */
export async function* usageOfDay(queries: Queries, day: string): AsyncGenerator<DayUsage[]> {
  let after = { owner: '', slug: '' }
  for (;;) {
    const rows = await queries
      .selectFrom('usage_daily')
      .select(['group_id', 'slug', 'requests', 'input_tokens', 'output_tokens'])
      .where('day', '=', day)
      .where((eb) => eb(eb.refTuple('group_id', 'slug'), '>', eb.tuple(after.owner, after.slug)))
      .orderBy('group_id')
      .orderBy('slug')
      .limit(pageRows)
      .execute()
    const page = rows.map(({ group_id, slug, requests, input_tokens, output_tokens }) => ({
      owner: group_id,
      slug,
      requests,
      tokens: input_tokens + output_tokens,
    }))
    const last = page.at(-1)
    if (last === undefined) return
    yield page
    after = last
  }
}
