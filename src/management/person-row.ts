import type { Clock } from '../clock.ts'
import { newId } from '../id.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { PersonRow } from '../storage/tables.ts'
import { owned } from './owned.ts'

/**
 * The owner that a workspace has from its first day: an account without an e-mail address, whose personal keys the
 * lab's full-access keys can mint before anybody has been invited.
 */
export async function insertAccount(
  workspaceId: string,
  { transaction, clock }: { transaction: Transaction; clock: Clock },
): Promise<void> {
  const row: PersonRow = {
    id: newId(clock.now()),
    workspace_id: workspaceId,
    email: null,
    name: null,
    role: 'owner',
    created_at: clock.now(),
  }
  await transaction.queries.insertInto('people').values(row).execute()
}

export async function findAccount(workspaceId: string, queries: Queries): Promise<PersonRow> {
  return queries
    .selectFrom('people')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('email', 'is', null)
    .executeTakeFirstOrThrow()
}

export async function findPerson(workspaceId: string, id: string, queries: Queries): Promise<PersonRow> {
  const row = await queries.selectFrom('people').selectAll().where('id', '=', id).executeTakeFirst()
  return owned(workspaceId, row, 'user')
}
