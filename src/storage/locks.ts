import { sql } from 'kysely'
import { StartError } from '../errors.ts'
import type { Transaction } from './database.ts'
import type { LockName, WorkspaceRow } from './tables.ts'

/**
 * Locks `name` on all nodes until the transaction ends; returns how often that has been done.
 *
 * - `names`: whoever checks that something is unique in the installation, and no constraint sees to it.
 * - `changes`: whoever tells the other nodes of a change; taken last, so that no transaction waits for long.
 *
 * Rows are locked in one order, so that nobody waits in a circle: the workspace, `names`, what is written, `changes`.
 */
export async function takeLock(name: LockName, { queries }: Transaction): Promise<number> {
  const { times } = await queries
    .updateTable('locks')
    .set({ times: sql<number>`times + 1` })
    .where('name', '=', name)
    .returning('times')
    .executeTakeFirstOrThrow()
  return times
}

/**
 * The advisory lock of PostgreSQL that every serving node shares. Whoever has it alone knows that no node serves, and
 * that none can start.
 */
export const servingLock = 4_807_526_976

/** Makes sure that no node serves from the PostgreSQL until the transaction ends. Throws `StartError` where one does. */
export async function keepNodesAway({ queries }: Pick<Transaction, 'queries'>): Promise<void> {
  const { rows } = await sql<{ alone: boolean }>`select pg_try_advisory_xact_lock(${servingLock}) as alone`.execute(
    queries,
  )
  if (rows[0]?.alone !== true) throw new StartError('A node serves from this database. Stop all nodes first.')
}

/**
 * The workspace as it is now, locked until the transaction ends: writers of one workspace come one after the other, so
 * what one of them checks is still true when it commits. Undefined where there is none.
 */
export function lockWorkspace(id: string, { queries }: Transaction): Promise<WorkspaceRow | undefined> {
  // An update that changes nothing takes the row's lock, whichever engine is underneath.
  return queries
    .updateTable('workspaces')
    .set(({ ref }) => ({ name: ref('name') }))
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirst()
}
