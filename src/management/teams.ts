import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { TeamRow } from '../storage/tables.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { defineRoute, type Route } from './route.ts'
import { defaultTeam, findTeam } from './team-row.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { revokeKeysOf } from './workspace-key-row.ts'

const name = z.string().min(1).max(255)

const CreateTeamRequest = z.strictObject({ name }).meta({ id: 'CreateTeamRequestV1' })
type CreateTeamRequest = z.output<typeof CreateTeamRequest>

const Team = z
  .object({
    id: z.string(),
    name: z.string(),
    default: z.boolean().describe('The one that every workspace has, and keeps.'),
    created_at: Timestamp,
  })
  .meta({ id: 'TeamV1' })
type Team = z.output<typeof Team>

const Teams = z.object({ teams: z.array(Team) }).meta({ id: 'TeamsV1' })
type Teams = z.output<typeof Teams>

const TeamTombstone = z
  .object({ id: z.string(), name: z.string(), deleted_at: Timestamp })
  .meta({ id: 'TeamTombstoneV1' })
type TeamTombstone = z.output<typeof TeamTombstone>

export interface TeamParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The lab's teams, each with keys and secrets of its own (contract §10). */
export function teamRoutes(parts: TeamParts): Route[] {
  const tag = 'Teams'
  const path = '/v1/teams'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'teams:manage',
      summary: 'Create a team',
      tag,
      body: CreateTeamRequest,
      response: Team,
      handler: ({ workspace, body, transaction }) => createTeam(workspace.id, body, { ...parts, transaction }),
      audit: (team) => ({ event_type: 'TEAM_CREATED', ...audited(team) }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'teams:view',
      summary: "List teams; a team's key sees its own",
      tag,
      query: { name: z.string().optional().describe('Only the team of this name.') },
      response: Teams,
      handler: ({ workspace, actor, query, queries }) => listTeams({ workspace, actor }, query, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{team_id}`,
      permission: 'teams:view',
      summary: 'Get a team',
      tag,
      response: Team,
      handler: async ({ workspace, actor, params, queries }) =>
        toTeam(await findTeam({ workspace, actor }, params.team_id, queries)),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{team_id}`,
      permission: 'teams:manage',
      summary: 'Delete a team and revoke its keys; its secrets pass to the default team',
      tag,
      response: TeamTombstone,
      handler: ({ workspace, actor, params, transaction }) =>
        deleteTeam({ workspace, actor }, params.team_id, { ...parts, transaction }),
      audit: (team) => ({ event_type: 'TEAM_DELETED', ...audited(team) }),
    }),
  ]
}

interface WriteParts extends TeamParts {
  transaction: Transaction
}

async function createTeam(
  workspaceId: string,
  { name }: CreateTeamRequest,
  { transaction, clock }: WriteParts,
): Promise<Team> {
  const row: TeamRow = {
    id: newId(clock.now()),
    workspace_id: workspaceId,
    name,
    is_default: 0,
    created_at: clock.now(),
  }
  await refuseDuplicate(transaction.queries.insertInto('teams').values(row).execute(), () =>
    invalid('name', `There is already a team with the name '${name}'.`),
  )
  return toTeam(row)
}

async function listTeams(
  { workspace, actor }: WorkspaceCaller,
  { name }: { name?: string | undefined },
  queries: Queries,
): Promise<Teams> {
  let visible = queries.selectFrom('teams').selectAll().where('workspace_id', '=', workspace.id)
  if (actor.teamId !== null) visible = visible.where('id', '=', actor.teamId)
  if (name !== undefined) visible = visible.where('name', '=', name)
  const rows = await visible.orderBy('id').execute()
  return { teams: rows.map(toTeam) }
}

async function deleteTeam(
  caller: WorkspaceCaller,
  id: string,
  { transaction, changeLog, clock }: WriteParts,
): Promise<TeamTombstone> {
  const { queries } = transaction
  const { name, is_default } = await findTeam(caller, id, queries)
  if (is_default === 1) {
    throw new ApiError('VALIDATION_ERROR', { message: 'The default team stays for as long as its workspace.' })
  }
  await revokeKeysOf({ workspaceId: caller.workspace.id, column: 'team_id', id }, { transaction, changeLog, clock })
  const heir = await defaultTeam(caller.workspace.id, queries)
  await queries.updateTable('secrets').set({ team_id: heir.id }).where('team_id', '=', id).execute()
  await queries.deleteFrom('teams').where('id', '=', id).execute()
  return { id, name, deleted_at: timestamp(clock.now()) }
}

function audited({ id, name }: Pick<Team, 'id' | 'name'>) {
  return { team_id: id, team_name: name }
}

function toTeam({ id, name, is_default, created_at }: TeamRow): Team {
  return { id, name, default: is_default === 1, created_at: timestamp(created_at) }
}
