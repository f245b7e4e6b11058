import { z } from 'zod'
import { covers } from '../access/key-power.ts'
import { may, type PersonRole, type WorkspaceKeyType, workspaceKeyTypes } from '../access/permissions.ts'
import { holderOf } from '../access/workspace-key.ts'
import { ApiError, invalid } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { PersonRow } from '../storage/tables.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { findAccount, findPerson } from './person-row.ts'

export const KeyType = z.enum(workspaceKeyTypes).meta({ id: 'APIKeyCategory' })
export const KeyName = z
  .string()
  .max(100)
  .regex(/^[a-z0-9-]+$/, 'Must be lowercase letters, digits and hyphens.')

const names = z.array(z.string().min(1).max(128)).min(1).max(1000).nullable().default(null)
const fields = {
  type: KeyType,
  name: KeyName.nullable().default(null),
  model_ids: names.describe(
    'Of keys that call models or read metrics, and do nothing else: only these. Left out: all.',
  ),
  environments: names.describe('Of keys that call models: only what these environments serve. Left out: all.'),
  user_id: z
    .string()
    .max(128)
    .nullable()
    .default(null)
    .describe(
      "Of personal keys: whose it is. Left out: the person's who asks, or, where a program asks, the workspace's own account's.",
    ),
}
type BoundField = Exclude<keyof typeof fields, 'type' | 'name'>

/** What each type of key can be bound to. */
const boundsOf = {
  PERSONAL: ['user_id'],
  WORKSPACE_MANAGE_ALL: ['environments'],
  WORKSPACE_INVOKE: ['model_ids', 'environments'],
  WORKSPACE_EXPORT_METRICS: ['model_ids'],
  WORKSPACE_MANAGE_API_KEYS: [],
} satisfies Record<WorkspaceKeyType, BoundField[]>

export const CreateKeyRequest = z
  .strictObject(fields)
  .check(({ value, issues }) => {
    const bounds: readonly BoundField[] = boundsOf[value.type]
    for (const field of ['model_ids', 'environments', 'user_id'] as const) {
      if (value[field] === null || bounds.includes(field)) continue
      issues.push({
        code: 'custom',
        input: value,
        path: [field],
        message: `A key of type ${value.type} does not take it.`,
      })
    }
  })
  .meta({ id: 'CreateAPIKeyRequestV1' })
export type CreateKeyRequest = z.output<typeof CreateKeyRequest>

/** Whose a new personal key is; null for the other types. */
export async function personOf(
  { workspace, actor }: WorkspaceCaller,
  { type, user_id }: CreateKeyRequest,
  queries: Queries,
): Promise<PersonRow | null> {
  if (type !== 'PERSONAL') return null
  const id = user_id ?? actor.person?.id
  return id === undefined ? findAccount(workspace.id, queries) : findPerson(workspace.id, id, queries)
}

/**
 * Throws a 403 where the new key could do anything that the caller's own cannot, and where it would be somebody
 * else's and the caller does not manage people (contract §10).
 */
export function refuseRise(
  { actor }: Pick<WorkspaceCaller, 'actor'>,
  {
    type,
    model_ids,
    environments,
    teamId,
    person,
  }: CreateKeyRequest & { teamId: string | null; person: PersonRow | null },
): void {
  const isOwn = person !== null && person.id === actor.person?.id
  const holder = holderOf(type, { person, roleBound: isOwn ? actor.roleBound : null })
  const isAllowed =
    holder !== null &&
    covers(actor, { holder, teamId, modelIds: model_ids, environments }) &&
    (isOwn || may(actor, person === null ? 'workspace-keys:manage' : 'people:manage'))
  if (!isAllowed) throw new ApiError('FORBIDDEN', { message: 'An API key mints none that may do more than itself.' })
}

/**
 * How far a new personal key rises with its person. One's own rises as far as the key that mints it; one for somebody else
 * no further than its maker, who has seen it: a person who is promoted would else give that power to both (contract §10).
 */
export function roleBoundOf({ actor }: Pick<WorkspaceCaller, 'actor'>, person: PersonRow): PersonRole | null {
  if (person.id === actor.person?.id) return actor.roleBound
  return actor.holder === 'admin' ? actor.holder : null
}

/** Throws a 400 that names the first model that the workspace does not have. */
export async function refuseUnknownModels(
  workspaceId: string,
  ids: readonly string[],
  queries: Queries,
): Promise<void> {
  if (ids.length === 0) return
  const rows = await queries
    .selectFrom('models')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('id', 'in', ids)
    .execute()
  const known = new Set(rows.map(({ id }) => id))
  for (const [index, id] of ids.entries()) {
    if (!known.has(id)) throw invalid(`model_ids.${index}`, `There is no model with the id '${id}'.`)
  }
}
