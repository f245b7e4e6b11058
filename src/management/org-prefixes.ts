import type { Queries } from '../storage/database.ts'
import type { WorkspaceRow } from '../storage/tables.ts'

/** The one entry of a workspace that may use any prefix that no other workspace owns (contract §5). */
export const anyPrefix = '*'

export function orgPrefixes({ org_prefixes }: Pick<WorkspaceRow, 'org_prefixes'>): string[] {
  return JSON.parse(org_prefixes)
}

/** The prefixes that a workspace may not use: those that others own. */
export async function othersPrefixes(workspaceId: string, queries: Queries): Promise<Set<string>> {
  const others = await queries.selectFrom('workspaces').select('org_prefixes').where('id', '!=', workspaceId).execute()
  return new Set(others.flatMap(orgPrefixes).filter((prefix) => prefix !== anyPrefix))
}
