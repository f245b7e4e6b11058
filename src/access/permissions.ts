/**
 * Who may do what: the one table (contract §3, §10). A route of the management API names the permission that it
 * needs; calling models and reading metrics have theirs. A holder is the operator, a type of workspace key or, for
 * personal keys, the role of the person.
 */
export const workspaceKeyTypes = [
  'PERSONAL',
  'WORKSPACE_MANAGE_ALL',
  'WORKSPACE_INVOKE',
  'WORKSPACE_EXPORT_METRICS',
  'WORKSPACE_MANAGE_API_KEYS',
] as const
export type WorkspaceKeyType = (typeof workspaceKeyTypes)[number]

/** From the one that may most to the one that may least. */
export const personRoles = ['owner', 'admin', 'member'] as const
export type PersonRole = (typeof personRoles)[number]

export type Holder = 'OPERATOR' | Exclude<WorkspaceKeyType, 'PERSONAL'> | PersonRole

const fullAccess = ['WORKSPACE_MANAGE_ALL', 'owner'] as const
const managers = [...fullAccess, 'admin'] as const
const everyone = [...managers, 'member'] as const

const holdersOf = {
  'workspaces:manage': ['OPERATOR'],
  'models:view': everyone,
  'models:manage': managers,
  'secrets:view': everyone,
  'secrets:manage': managers,
  'endpoints:view': everyone,
  'endpoints:manage': managers,
  'groups:view': everyone,
  'groups:manage': managers,
  'federated-keys:view': [...everyone, 'WORKSPACE_MANAGE_API_KEYS'],
  'federated-keys:manage': [...managers, 'WORKSPACE_MANAGE_API_KEYS'],
  'webhooks:view': everyone,
  'webhooks:manage': managers,
  'events:view': everyone,
  'domains:view': everyone,
  'domains:manage': managers,
  /** One's own: the keys of the person, or those that `workspace-keys:manage` reaches. */
  'workspace-keys:use': [...everyone, 'WORKSPACE_MANAGE_API_KEYS'],
  'workspace-keys:manage': [...managers, 'WORKSPACE_MANAGE_API_KEYS'],
  'teams:view': everyone,
  'teams:manage': managers,
  'profile:view': everyone,
  'people:view': everyone,
  'people:manage': managers,
  /** To make or unmake an owner. */
  'owners:manage': fullAccess,
  'audit:view': managers,
  'metrics:view': [...everyone, 'WORKSPACE_EXPORT_METRICS'],
  'inference:call': [...everyone, 'WORKSPACE_INVOKE'],
} as const satisfies Record<string, readonly Holder[]>

export type Permission = keyof typeof holdersOf
export type OperatorPermission = 'workspaces:manage'
export type WorkspacePermission = Exclude<Permission, OperatorPermission>

/** What a key of a team may not do, whatever its type: it reaches beyond the team. */
const beyondTeams: readonly Permission[] = [
  'teams:manage',
  'people:view',
  'people:manage',
  'owners:manage',
  'audit:view',
]

export const permissions = Object.keys(holdersOf) as Permission[]

/** Whose power is asked about: a holder, of the whole workspace or of one of its teams. */
export interface PowerHolder {
  holder: Holder
  teamId: string | null
}

export function may({ holder, teamId }: PowerHolder, permission: Permission): boolean {
  const holders: readonly Holder[] = holdersOf[permission]
  return holders.includes(holder) && (teamId === null || !beyondTeams.includes(permission))
}

export function isOperatorPermission(permission: Permission): permission is OperatorPermission {
  return permission === 'workspaces:manage'
}
