import type { Queries } from '../storage/database.ts'
import type { PersonRow, WorkspaceKeyRow } from '../storage/tables.ts'
import { type Holder, type PersonRole, personRoles, type WorkspaceKeyType } from './permissions.ts'

/** A workspace key that may be used: whose it is, and what bounds it (contract §10). */
export interface WorkspaceKey {
  prefix: string
  name: string | null
  type: WorkspaceKeyType
  workspaceId: string
  /** Null: the whole workspace's. */
  teamId: string | null
  /** Of a personal key, and of no other. */
  person: Person | null
  /** Of a personal key: the role beyond which it does not rise; null: none. */
  roleBound: PersonRole | null
  /** What the table of permissions knows it as. */
  holder: Holder
  /** The models that it is narrowed to; null: all. */
  modelIds: readonly string[] | null
  /** The environments that its inference is narrowed to; null: all. */
  environments: readonly string[] | null
}

export type Person = Pick<PersonRow, 'id' | 'email' | 'name' | 'role'>

/**
 * The key with this hash (`keyHash`), or null when nobody has it. What was revoked takes the same one query as what
 * never was.
 */
export async function findWorkspaceKey(queries: Queries, hash: string): Promise<WorkspaceKey | null> {
  const row = await queries
    .selectFrom('workspace_keys')
    .leftJoin('people', 'people.id', 'workspace_keys.person_id')
    .selectAll('workspace_keys')
    .select(['people.id as owner_id', 'people.email', 'people.name as owner_name', 'people.role'])
    .where('hash', '=', hash)
    .where('revoked_at', 'is', null)
    .executeTakeFirst()
  if (row === undefined) return null
  const { owner_id, email, owner_name, role, role_bound: roleBound } = row
  const person = owner_id === null || role === null ? null : { id: owner_id, email, name: owner_name, role }
  const holder = holderOf(row.type, { person, roleBound })
  if (holder === null) return null
  return {
    prefix: row.prefix,
    name: row.name,
    type: row.type,
    workspaceId: row.workspace_id,
    teamId: row.team_id,
    person,
    roleBound,
    holder,
    ...keyScope(row),
  }
}

/** What a key is narrowed to, as its row keeps it. */
export function keyScope({ model_ids, environments }: Pick<WorkspaceKeyRow, 'model_ids' | 'environments'>): {
  modelIds: readonly string[] | null
  environments: readonly string[] | null
} {
  return {
    modelIds: model_ids === null ? null : JSON.parse(model_ids),
    environments: environments === null ? null : JSON.parse(environments),
  }
}

/** Null for a personal key whose person is gone: it may nothing any more. */
export function holderOf(
  type: WorkspaceKeyType,
  { person, roleBound }: { person: Pick<Person, 'role'> | null; roleBound: PersonRole | null },
): Holder | null {
  if (type !== 'PERSONAL') return type
  return person === null ? null : weaker(person.role, roleBound ?? person.role)
}

function weaker(one: PersonRole, other: PersonRole): PersonRole {
  return personRoles.indexOf(one) > personRoles.indexOf(other) ? one : other
}
