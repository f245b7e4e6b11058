import { invalid } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { WorkspaceCaller } from './authentication.ts'

export interface SecretReference {
  /** Where in the request it stands. */
  path: string
  secretId: string
}

/**
 * Throws a 400 that names the first reference to a secret that the caller does not see: whoever may send a secret to an
 * address of his choosing may read it.
 */
export async function refuseUnknownSecrets(
  { workspace, actor }: WorkspaceCaller,
  references: readonly SecretReference[],
  queries: Queries,
): Promise<void> {
  if (references.length === 0) return
  const ids = references.map(({ secretId }) => secretId)
  const rows = await queries
    .selectFrom('secrets')
    .select('id')
    .where('workspace_id', '=', workspace.id)
    .$if(actor.teamId !== null, (query) => query.where('team_id', '=', actor.teamId))
    .where('id', 'in', ids)
    .execute()
  const known = new Set(rows.map(({ id }) => id))
  for (const { path, secretId } of references) {
    if (!known.has(secretId)) throw invalid(path, `There is no secret with the id '${secretId}'.`)
  }
}
