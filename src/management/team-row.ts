import type { Clock } from '../clock.ts'
import { ApiError } from '../errors.ts'
import { newId } from '../id.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { TeamRow } from '../storage/tables.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { owned } from './owned.ts'

/** The team that a workspace has from its first day. */
export async function insertDefaultTeam(
  workspaceId: string,
  { transaction, clock }: { transaction: Transaction; clock: Clock },
): Promise<void> {
  const row: TeamRow = {
    id: newId(clock.now()),
    workspace_id: workspaceId,
    name: 'Default',
    is_default: 1,
    created_at: clock.now(),
  }
  await transaction.queries.insertInto('teams').values(row).execute()
}

export async function defaultTeam(workspaceId: string, queries: Queries): Promise<TeamRow> {
  return queries
    .selectFrom('teams')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('is_default', '=', 1)
    .executeTakeFirstOrThrow()
}

/** A team that the caller sees: 403 where it is another workspace's, or the caller is of another team. */
export async function findTeam({ actor, workspace }: WorkspaceCaller, id: string, queries: Queries): Promise<TeamRow> {
  const row = await queries.selectFrom('teams').selectAll().where('id', '=', id).executeTakeFirst()
  const team = owned(workspace.id, row, 'team')
  refuseOtherTeam({ actor }, team.id)
  return team
}

/** Throws a 403 for a key of one team that asks for what belongs to another, or to none. */
export function refuseOtherTeam({ actor }: Pick<WorkspaceCaller, 'actor'>, teamId: string | null): void {
  if (actor.teamId !== null && actor.teamId !== teamId) {
    throw new ApiError('FORBIDDEN', { message: 'This API key sees what belongs to its team, and no more.' })
  }
}
