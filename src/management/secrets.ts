import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { invalid, notFound } from '../errors.ts'
import { isHeaderValue } from '../http1/headers.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type SecretBox, secretPurpose } from '../storage/secret-box.ts'
import type { SecretRow } from '../storage/tables.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { defineRoute, type Route } from './route.ts'
import { defaultTeam, findTeam, refuseOtherTeam } from './team-row.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { urlSegment } from './url-segment.ts'

const SecretName = z
  .string()
  .max(100)
  .regex(new RegExp(`^${urlSegment}$`), 'Must be URL-safe: letters, digits and ._~-, and not dots alone.')

/** All providers take it in a header. */
const SecretValue = z
  .string()
  .min(1)
  .max(65_536)
  .refine(isHeaderValue, {
    error:
      'Must fit into a header, in which it is sent: leave out line feeds, also the one with which a file ends, other control characters, and what lies beyond U+00FF.',
  })
  .describe('Sent upstream in a header: one line.')

const UpsertSecretRequest = z
  .strictObject({ name: SecretName, value: SecretValue })
  .meta({ id: 'UpsertSecretRequestV1' })
type UpsertSecretRequest = z.output<typeof UpsertSecretRequest>

const Secret = z
  .object({
    id: z.string().describe('What models and endpoints refer to; stays when the value is replaced.'),
    name: z.string(),
    team_name: z.string(),
    created_at: Timestamp,
  })
  .meta({ id: 'SecretV1' })
type Secret = z.output<typeof Secret>

const Secrets = z.object({ secrets: z.array(Secret) }).meta({ id: 'SecretsV1' })
type Secrets = z.output<typeof Secrets>

const SecretTombstone = z.object({ name: z.string() }).meta({ id: 'SecretTombstoneV1' })

export interface SecretParts {
  changeLog: ChangeLog
  clock: Clock
  secretBox: SecretBox
}

/** Credentials for upstreams: written, used, never shown (contract §6). Each belongs to a team. */
export function secretRoutes(parts: SecretParts): Route[] {
  const tag = 'Secrets'
  return [
    defineRoute({
      method: 'GET',
      path: '/v1/secrets',
      permission: 'secrets:view',
      summary: 'List secrets, without their values',
      tag,
      response: Secrets,
      handler: ({ workspace, actor, queries }) => listSecrets(workspace.id, { teamId: actor.teamId }, queries),
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/secrets',
      permission: 'secrets:manage',
      summary: "Create a secret of the key's own team, else of the default team, or replace its value",
      tag,
      body: UpsertSecretRequest,
      response: Secret,
      handler: ({ workspace, actor, body, transaction }) =>
        upsertSecret(workspace.id, { teamId: actor.teamId, ...body }, { ...parts, transaction }),
      audit: (secret) => ({ event_type: 'SECRET_UPDATED', ...audited(secret) }),
    }),
    defineRoute({
      method: 'DELETE',
      path: '/v1/secrets/{secret_name}',
      permission: 'secrets:manage',
      summary: 'Delete a secret',
      tag,
      response: SecretTombstone,
      handler: ({ workspace, actor, params, transaction }) =>
        deleteSecret({ workspace, actor }, params.secret_name, { ...parts, transaction }),
      audit: (secret) => ({ event_type: 'SECRET_DELETED', ...audited(secret) }),
    }),
    defineRoute({
      method: 'GET',
      path: '/v1/teams/{team_id}/secrets',
      permission: 'secrets:view',
      summary: "List a team's secrets, without their values",
      tag,
      response: Secrets,
      handler: async ({ workspace, actor, params, queries }) => {
        const team = await findTeam({ workspace, actor }, params.team_id, queries)
        return listSecrets(workspace.id, { teamId: team.id }, queries)
      },
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/teams/{team_id}/secrets',
      permission: 'secrets:manage',
      summary: 'Create a secret of a team, or replace its value',
      tag,
      body: UpsertSecretRequest,
      response: Secret,
      handler: async ({ workspace, actor, params, body, transaction }) => {
        const team = await findTeam({ workspace, actor }, params.team_id, transaction.queries)
        return upsertSecret(workspace.id, { teamId: team.id, ...body }, { ...parts, transaction })
      },
      audit: (secret) => ({ event_type: 'SECRET_UPDATED', ...audited(secret) }),
    }),
  ]
}

interface WriteParts extends SecretParts {
  transaction: Transaction
}

interface SecretWithTeam extends SecretRow {
  team_name: string
}

/** With `teamId` null, those of all teams. */
async function listSecrets(
  workspaceId: string,
  { teamId }: { teamId: string | null },
  queries: Queries,
): Promise<Secrets> {
  const rows = await secretsOf(workspaceId, queries)
    .$if(teamId !== null, (query) => query.where('team_id', '=', teamId ?? ''))
    .orderBy('secrets.id')
    .execute()
  return { secrets: rows.map(toSecret) }
}

/** A name stands for one secret in the whole workspace: with `teamId`, one that another team has is refused. */
async function upsertSecret(
  workspaceId: string,
  { teamId, name, value }: UpsertSecretRequest & { teamId: string | null },
  { transaction, changeLog, clock, secretBox }: WriteParts,
): Promise<Secret> {
  const { queries } = transaction
  const present = await findSecret(workspaceId, name, queries).executeTakeFirst()
  if (present !== undefined && teamId !== null && present.team_id !== teamId) {
    throw invalid('name', `Another team has a secret with the name '${name}'.`)
  }
  const nowMs = clock.now()
  const sealed_value = secretBox.seal(value, secretPurpose({ workspace_id: workspaceId, name }))
  await queries
    .insertInto('secrets')
    .values({
      id: newId(nowMs),
      workspace_id: workspaceId,
      team_id: teamId ?? (await defaultTeam(workspaceId, queries)).id,
      name,
      sealed_value,
      created_at: nowMs,
      updated_at: nowMs,
    })
    .onConflict((conflict) =>
      conflict.columns(['workspace_id', 'name']).doUpdateSet({ sealed_value, updated_at: nowMs }),
    )
    .execute()
  changeLog.record(transaction, { kind: 'routing', workspaceId })
  return toSecret(await findSecret(workspaceId, name, queries).executeTakeFirstOrThrow())
}

async function deleteSecret(
  { workspace, actor }: WorkspaceCaller,
  name: string,
  { transaction, changeLog }: WriteParts,
): Promise<Pick<SecretRow, 'id' | 'name'>> {
  const secret = await findSecret(workspace.id, name, transaction.queries).executeTakeFirst()
  if (secret === undefined) throw notFound('secret')
  refuseOtherTeam({ actor }, secret.team_id)
  await transaction.queries.deleteFrom('secrets').where('id', '=', secret.id).execute()
  changeLog.record(transaction, { kind: 'routing', workspaceId: workspace.id })
  return secret
}

function secretsOf(workspaceId: string, queries: Queries) {
  return queries
    .selectFrom('secrets')
    .innerJoin('teams', 'teams.id', 'secrets.team_id')
    .selectAll('secrets')
    .select('teams.name as team_name')
    .where('secrets.workspace_id', '=', workspaceId)
}

function findSecret(workspaceId: string, name: string, queries: Queries) {
  return secretsOf(workspaceId, queries).where('secrets.name', '=', name)
}

function audited({ id, name }: Pick<SecretRow, 'id' | 'name'>) {
  return { secret_id: id, secret_name: name }
}

function toSecret({ id, name, team_name, created_at }: SecretWithTeam): Secret {
  return { id, name, team_name, created_at: timestamp(created_at) }
}
