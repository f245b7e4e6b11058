import { timingSafeEqual } from 'node:crypto'
import { keyHash } from '../access/api-key.ts'
import { isOperatorPermission, may, type Permission } from '../access/permissions.ts'
import { presentedKey } from '../access/principal.ts'
import { findWorkspaceKey, type WorkspaceKey } from '../access/workspace-key.ts'
import { ApiError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { WorkspaceRow } from '../storage/tables.ts'

export interface OperatorCaller {
  actor: { kind: 'operator' }
}

export interface WorkspaceCaller {
  actor: { kind: 'workspace-key' } & WorkspaceKey
  /** The caller's own: every query of the request is about it and no other. */
  workspace: WorkspaceRow
}

export type Caller = OperatorCaller | WorkspaceCaller

export interface CallerRequest {
  authorization: string | undefined
  permission: Permission
  /** `/v1/gateway/` is for workspaces that are onboarded (contract §4). */
  path: string
}

/**
 * Who calls, once it is certain that they may. Throws the one 401 for a key that is missing, unknown, revoked or of
 * the wrong kind for this listener, and 403 for a key that is known and may not (contract §3).
 */
export async function authenticate(
  { authorization, permission, path }: CallerRequest,
  { queries, operatorKeyHash }: { queries: Queries; operatorKeyHash: string },
): Promise<Caller> {
  const key = presentedKey(authorization)
  if (key === null) throw new ApiError('UNAUTHORIZED')
  const hash = keyHash(key)
  if (isOperatorPermission(permission) && sameHash(hash, operatorKeyHash)) return { actor: { kind: 'operator' } }

  const caller = await findWorkspaceCaller(queries, hash)
  if (caller === null) throw new ApiError('UNAUTHORIZED')
  if (!may(caller.actor, permission)) throw new ApiError('FORBIDDEN')
  if (path.startsWith('/v1/gateway/') && caller.workspace.onboarded === 0) {
    throw new ApiError('FORBIDDEN', { message: 'This workspace is not onboarded to the gateway.' })
  }
  return caller
}

async function findWorkspaceCaller(queries: Queries, hash: string): Promise<WorkspaceCaller | null> {
  const key = await findWorkspaceKey(queries, hash)
  if (key === null) return null
  const workspace = await queries
    .selectFrom('workspaces')
    .selectAll()
    .where('id', '=', key.workspaceId)
    .executeTakeFirst()
  return workspace === undefined ? null : { actor: { kind: 'workspace-key', ...key }, workspace }
}

function sameHash(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(one, 'base64'), Buffer.from(other, 'base64'))
}
