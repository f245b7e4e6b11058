import type { Queries } from '../storage/database.ts'

/** What one process counted towards a group's daily limits of one slug. */
export interface DayUsage {
  /** The root of the group's tree; the group itself where it is gone. */
  hierarchy: string
  /** The group whose counters these are. */
  owner: string
  slug: string
  node: string
  requests: number
  /** Input and output tokens. */
  tokens: number
}

const pageRows = 1_000

/** The roll-up of one UTC day, `YYYY-MM-DD`, in pages of whole counters: all nodes' rows of one are in one page. */
export async function* usageOfDay(queries: Queries, day: string): AsyncGenerator<DayUsage[]> {
  let after = { owner: '', slug: '' }
  for (;;) {
    const rows = await dayRows(queries, day)
      .where((eb) => eb(eb.refTuple('group_id', 'slug'), '>', eb.tuple(after.owner, after.slug)))
      .orderBy('group_id')
      .orderBy('slug')
      .orderBy('node')
      .limit(pageRows)
      .execute()
    const last = rows.at(-1)
    if (last === undefined) return
    const restOfLast = await dayRows(queries, day)
      .where('group_id', '=', last.group_id)
      .where('slug', '=', last.slug)
      .where('node', '>', last.node)
      .execute()
    yield [...rows, ...restOfLast].map(toDayUsage)
    after = { owner: last.group_id, slug: last.slug }
  }
}

/** The roll-up of one UTC day for all groups of one tree. */
export async function usageOfHierarchy(
  queries: Queries,
  { day, hierarchy }: { day: string; hierarchy: string },
): Promise<DayUsage[]> {
  const rows = await queries
    .withRecursive('tree', (query) =>
      query
        .selectFrom('groups')
        .select(['id', 'path'])
        .where('id', '=', hierarchy)
        .unionAll(
          query
            .selectFrom('groups')
            .innerJoin('tree', 'tree.id', 'groups.parent_group_id')
            .select(['groups.id', 'groups.path']),
        ),
    )
    .selectFrom('tree')
    .innerJoin('usage_daily', 'usage_daily.group_id', 'tree.id')
    .select(['tree.path', 'group_id', 'slug', 'node', 'requests', 'input_tokens', 'output_tokens'])
    .where('day', '=', day)
    .execute()
  return rows.map(toDayUsage)
}

function dayRows(queries: Queries, day: string) {
  return queries
    .selectFrom('usage_daily')
    .leftJoin('groups', 'groups.id', 'usage_daily.group_id')
    .select(['groups.path', 'group_id', 'slug', 'node', 'requests', 'input_tokens', 'output_tokens'])
    .where('day', '=', day)
}

function toDayUsage({ path, group_id, slug, node, requests, input_tokens, output_tokens }: UsageRow): DayUsage {
  const hierarchy = path?.split('/').at(-1) ?? group_id
  return { hierarchy, owner: group_id, slug, node, requests, tokens: input_tokens + output_tokens }
}

interface UsageRow {
  path: string | null
  group_id: string
  slug: string
  node: string
  requests: number
  input_tokens: number
  output_tokens: number
}
