import type { MintedKey } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { notFound } from '../errors.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, pageStart } from '../storage/page.ts'
import type { FederatedKeyRow } from '../storage/tables.ts'
import { owned } from './owned.ts'

export interface KeyWriteParts {
  transaction: Transaction
  changeLog: ChangeLog
  clock: Clock
}

export interface NewKey {
  workspaceId: string
  groupId: string
  key: Pick<MintedKey, 'prefix' | 'hash'>
  name: string | null
  expiresAtMs?: number | null
  /** Null: the key follows its group. */
  slugs?: readonly string[] | null
}

/** Adds a key's row; from the commit on, the key is known everywhere. */
export async function insertFederatedKey(
  { workspaceId, groupId, key: { prefix, hash }, name, expiresAtMs = null, slugs = null }: NewKey,
  { transaction, changeLog, clock }: KeyWriteParts,
): Promise<void> {
  await transaction.queries
    .insertInto('federated_keys')
    .values({
      id: newId(clock.now()),
      prefix,
      hash,
      workspace_id: workspaceId,
      group_id: groupId,
      name,
      created_at: clock.now(),
      expires_at: expiresAtMs,
      last_used_at: null,
      revoked_at: null,
      slugs: slugs === null ? null : JSON.stringify(slugs),
      successor_prefix: null,
    })
    .execute()
  changeLog.record(transaction, { kind: 'key', hash })
}

/** The rows of a page of the group's keys, and one more; revoked keys are not among them. */
export function selectFederatedKeys(
  workspaceId: string,
  { groupId, ...request }: PageRequest & { groupId: string },
  queries: Queries,
): Promise<FederatedKeyRow[]> {
  return queries
    .selectFrom('federated_keys')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('group_id', '=', groupId)
    .where('revoked_at', 'is', null)
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
}

/** The key's row. One that is revoked, or another group's, is as absent as one that never was. */
export async function findFederatedKey(
  workspaceId: string,
  { groupId, prefix }: { groupId: string; prefix: string },
  queries: Queries,
): Promise<FederatedKeyRow> {
  const row = await queries
    .selectFrom('federated_keys')
    .selectAll()
    .where('prefix', '=', prefix)
    .where('revoked_at', 'is', null)
    .executeTakeFirst()
  const key = owned(workspaceId, row, 'key')
  if (key.group_id !== groupId) throw notFound('key')
  return key
}

/** Changes a key's row; from the commit on, the change holds everywhere. */
export async function updateFederatedKey(
  { id, hash }: Pick<FederatedKeyRow, 'id' | 'hash'>,
  changes: Partial<Pick<FederatedKeyRow, 'expires_at' | 'revoked_at' | 'successor_prefix'>>,
  { transaction, changeLog }: Omit<KeyWriteParts, 'clock'>,
): Promise<void> {
  await transaction.queries.updateTable('federated_keys').set(changes).where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'key', hash })
}
