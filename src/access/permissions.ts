/**
 * Who may do what in the management API and beyond: the one table. A route names the permission that it needs,
 * a caller has those of its kind of key (contract §10).
 */
export const workspacePermissions = [
  'models:view',
  'models:manage',
  'secrets:view',
  'secrets:manage',
  'endpoints:view',
  'endpoints:manage',
  'groups:view',
  'groups:manage',
  'federated-keys:view',
  'federated-keys:manage',
  'workspace-keys:view',
  'workspace-keys:manage',
  'metrics:view',
  'inference:call',
] as const
export type WorkspacePermission = (typeof workspacePermissions)[number]

export const operatorPermissions = ['workspaces:manage'] as const
export type OperatorPermission = (typeof operatorPermissions)[number]

export type Permission = WorkspacePermission | OperatorPermission

export const workspaceKeyTypes = [
  'PERSONAL',
  'WORKSPACE_MANAGE_ALL',
  'WORKSPACE_INVOKE',
  'WORKSPACE_EXPORT_METRICS',
  'WORKSPACE_MANAGE_API_KEYS',
] as const
export type WorkspaceKeyType = (typeof workspaceKeyTypes)[number]

export type Holder = 'OPERATOR' | WorkspaceKeyType

const permissionsOf = {
  OPERATOR: operatorPermissions,
  PERSONAL: workspacePermissions,
  WORKSPACE_MANAGE_ALL: workspacePermissions,
  WORKSPACE_INVOKE: ['inference:call'],
  WORKSPACE_EXPORT_METRICS: ['metrics:view'],
  WORKSPACE_MANAGE_API_KEYS: [
    'workspace-keys:view',
    'workspace-keys:manage',
    'federated-keys:view',
    'federated-keys:manage',
  ],
} satisfies Record<Holder, readonly Permission[]>

export function may(holder: Holder, permission: Permission): boolean {
  const granted: readonly Permission[] = permissionsOf[holder]
  return granted.includes(permission)
}

export function isOperatorPermission(permission: Permission): permission is OperatorPermission {
  return operatorPermissions.some((candidate) => candidate === permission)
}
