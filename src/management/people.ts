import { z } from 'zod'
import { may, type PersonRole, personRoles } from '../access/permissions.ts'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { PersonRow } from '../storage/tables.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { findPerson } from './person-row.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { revokeKeysOf } from './workspace-key-row.ts'

const Role = z
  .enum(personRoles)
  .describe(
    'owner: everything. admin: everything but owners. member: sees everything but the audit log, calls models, has personal keys.',
  )
  .meta({ id: 'UserRoleV1' })

const InviteRequest = z
  .strictObject({
    email: z.email().max(255).toLowerCase(),
    name: z.string().min(1).max(255).nullable().default(null),
    role: Role.default('member'),
  })
  .meta({ id: 'InviteUserRequestV1' })
type InviteRequest = z.output<typeof InviteRequest>

const UpdateRequest = z.strictObject({ role: Role }).meta({ id: 'UpdateUserRequestV1' })

const Person = z
  .object({
    id: z.string(),
    email: z.string().nullable().describe("Null: the workspace's own account, which stays."),
    name: z.string().nullable(),
    role: Role,
    created_at: Timestamp,
  })
  .meta({ id: 'UserV1' })
type Person = z.output<typeof Person>

const People = z.object({ items: z.array(Person), pagination: Pagination }).meta({ id: 'UsersResponseV1' })
type People = z.output<typeof People>

const PersonTombstone = z
  .object({ id: z.string(), email: z.string(), deleted_at: Timestamp })
  .meta({ id: 'UserTombstoneV1' })
type PersonTombstone = z.output<typeof PersonTombstone>

const Profile = z
  .object({
    user_id: z.string().describe("The person whose personal key asks; for a key that is no person's, its prefix."),
    email: z.string().nullable(),
    name: z.string().nullable().describe("The person's, or the key's."),
    workspace_name: z.string().nullable(),
  })
  .meta({ id: 'UserInfoV1' })
type Profile = z.output<typeof Profile>

export interface PeopleParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The lab's own people, whose personal keys may what their role allows (contract §10). */
export function peopleRoutes(parts: PeopleParts): Route[] {
  const tag = 'Users'
  const path = '/v1/users'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'people:manage',
      summary: 'Invite a person',
      tag,
      body: InviteRequest,
      response: Person,
      handler: ({ workspace, actor, body, transaction }) =>
        invite({ workspace, actor }, body, { ...parts, transaction }),
      audit: ({ role }, { body }) => ({
        event_type: 'USER_INVITED',
        invited_user_email: body.email,
        role_name: role,
      }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'people:view',
      summary: 'List people',
      tag,
      query: pageQuery,
      response: People,
      handler: ({ workspace, query, queries }) => listPeople(workspace.id, query, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/me`,
      permission: 'profile:view',
      summary: 'Get the person whose key asks',
      tag,
      response: Profile,
      handler: async ({ workspace, actor }) => profileOf({ workspace, actor }),
    }),
    defineRoute({
      method: 'PATCH',
      path: `${path}/{user_id}`,
      permission: 'people:manage',
      summary: "Change a person's role",
      tag,
      body: UpdateRequest,
      response: Person,
      handler: ({ workspace, actor, params, body, transaction }) =>
        changeRole({ workspace, actor }, { id: params.user_id, ...body }, { ...parts, transaction }),
      audit: ({ id, invitedAs, role }) => ({
        event_type: 'USER_ROLE_UPDATED',
        user_id: id,
        user_email: invitedAs,
        new_role_name: role,
      }),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{user_id}`,
      permission: 'people:manage',
      summary: 'Remove a person and revoke their personal keys',
      tag,
      response: PersonTombstone,
      handler: ({ workspace, actor, params, transaction }) =>
        removePerson({ workspace, actor }, params.user_id, { ...parts, transaction }),
      audit: ({ email }) => ({ event_type: 'USER_REMOVED', removed_user_email: email }),
    }),
  ]
}

interface WriteParts extends PeopleParts {
  transaction: Transaction
}

async function invite(
  { workspace, actor }: WorkspaceCaller,
  { email, name, role }: InviteRequest,
  { transaction, clock }: WriteParts,
): Promise<Person> {
  refuseOwnerRole(actor, role)
  const row: PersonRow = {
    id: newId(clock.now()),
    workspace_id: workspace.id,
    email,
    name,
    role,
    created_at: clock.now(),
  }
  await refuseDuplicate(transaction.queries.insertInto('people').values(row).execute(), () =>
    invalid('email', `There is already a person with the address '${email}'.`),
  )
  return toPerson(row)
}

async function listPeople(workspaceId: string, request: PageRequest, queries: Queries): Promise<People> {
  const rows = await queries
    .selectFrom('people')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toPerson)
}

function profileOf({ workspace, actor }: WorkspaceCaller): Profile {
  const { person, prefix, name } = actor
  return {
    user_id: person === null ? prefix : person.id,
    email: person === null ? null : person.email,
    name: person === null ? name : person.name,
    workspace_name: workspace.name,
  }
}

async function changeRole(
  { workspace, actor }: WorkspaceCaller,
  { id, role }: { id: string; role: PersonRole },
  { transaction }: WriteParts,
): Promise<Person & { invitedAs: string }> {
  const { queries } = transaction
  const person = await findInvited(workspace.id, id, queries)
  refuseOwnerRole(actor, person.role)
  refuseOwnerRole(actor, role)
  await queries.updateTable('people').set({ role }).where('id', '=', id).execute()
  return { ...toPerson({ ...person, role }), invitedAs: person.email }
}

async function removePerson(
  { workspace, actor }: WorkspaceCaller,
  id: string,
  { transaction, changeLog, clock }: WriteParts,
): Promise<PersonTombstone> {
  const { queries } = transaction
  const { email, role } = await findInvited(workspace.id, id, queries)
  refuseOwnerRole(actor, role)
  await revokeKeysOf({ workspaceId: workspace.id, column: 'person_id', id }, { transaction, changeLog, clock })
  await queries.deleteFrom('people').where('id', '=', id).execute()
  return { id, email, deleted_at: timestamp(clock.now()) }
}

/** A person who was invited, so not the workspace's own account: that stays as it is. */
async function findInvited(workspaceId: string, id: string, queries: Queries): Promise<PersonRow & { email: string }> {
  const { email, ...person } = await findPerson(workspaceId, id, queries)
  if (email === null) {
    throw new ApiError('VALIDATION_ERROR', { message: "The workspace's own account stays as it is." })
  }
  return { ...person, email }
}

function refuseOwnerRole(actor: WorkspaceCaller['actor'], role: PersonRole): void {
  if (role === 'owner' && !may(actor, 'owners:manage')) {
    throw new ApiError('FORBIDDEN', { message: 'Owners are made and unmade by owners.' })
  }
}

function toPerson({ id, email, name, role, created_at }: PersonRow): Person {
  return { id, email, name, role, created_at: timestamp(created_at) }
}
