import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { notFound } from '../errors.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type SecretBox, secretPurpose } from '../storage/secret-box.ts'
import type { SecretRow } from '../storage/tables.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

/** Until teams come, everything belongs to the one that every workspace has. */
const defaultTeamName = 'Default'

const SecretName = z
  .string()
  .max(100)
  .regex(/^[\w.~-]+$/, 'Must be URL-safe: letters, digits and ._~-.')

const UpsertSecretRequest = z
  .strictObject({ name: SecretName, value: z.string().min(1).max(65_536) })
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
type SecretTombstone = z.output<typeof SecretTombstone>

export interface SecretParts {
  changeLog: ChangeLog
  clock: Clock
  secretBox: SecretBox
}

/** Credentials for upstreams: written, used, never shown (contract §6). */
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
      handler: ({ workspace, queries }) => listSecrets(workspace.id, queries),
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/secrets',
      permission: 'secrets:manage',
      summary: 'Create a secret, or replace its value',
      tag,
      body: UpsertSecretRequest,
      response: Secret,
      handler: ({ workspace, body, transaction }) => upsertSecret(workspace.id, body, { ...parts, transaction }),
    }),
    defineRoute({
      method: 'DELETE',
      path: '/v1/secrets/{secret_name}',
      permission: 'secrets:manage',
      summary: 'Delete a secret',
      tag,
      response: SecretTombstone,
      handler: ({ workspace, params, transaction }) =>
        deleteSecret(workspace.id, params.secret_name, { ...parts, transaction }),
    }),
  ]
}

interface WriteParts extends SecretParts {
  transaction: Transaction
}

async function listSecrets(workspaceId: string, queries: Queries): Promise<Secrets> {
  const rows = await queries
    .selectFrom('secrets')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .orderBy('id')
    .execute()
  return { secrets: rows.map(toSecret) }
}

async function upsertSecret(
  workspaceId: string,
  { name, value }: UpsertSecretRequest,
  { transaction, changeLog, clock, secretBox }: WriteParts,
): Promise<Secret> {
  const nowMs = clock.now()
  const sealed_value = secretBox.seal(value, secretPurpose({ workspace_id: workspaceId, name }))
  const row = await transaction.queries
    .insertInto('secrets')
    .values({
      id: newId(nowMs),
      workspace_id: workspaceId,
      name,
      sealed_value,
      created_at: nowMs,
      updated_at: nowMs,
    })
    .onConflict((conflict) =>
      conflict.columns(['workspace_id', 'name']).doUpdateSet({ sealed_value, updated_at: nowMs }),
    )
    .returningAll()
    .executeTakeFirstOrThrow()
  changeLog.record(transaction, { kind: 'routing', workspaceId })
  return toSecret(row)
}

async function deleteSecret(
  workspaceId: string,
  name: string,
  { transaction, changeLog }: WriteParts,
): Promise<SecretTombstone> {
  const deleted = await transaction.queries
    .deleteFrom('secrets')
    .where('workspace_id', '=', workspaceId)
    .where('name', '=', name)
    .returning('id')
    .executeTakeFirst()
  if (deleted === undefined) throw notFound('secret')
  changeLog.record(transaction, { kind: 'routing', workspaceId })
  return { name }
}

function toSecret({ id, name, created_at }: SecretRow): Secret {
  return { id, name, team_name: defaultTeamName, created_at: timestamp(created_at) }
}
