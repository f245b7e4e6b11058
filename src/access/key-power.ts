import { may, type PowerHolder, permissions } from './permissions.ts'

/** All that bounds what a workspace key may do. */
export interface KeyPower extends PowerHolder {
  /** Null: all. */
  modelIds: readonly string[] | null
  environments: readonly string[] | null
}

/** Whether a key of power `wanted` may do nothing that one of power `own` may not: nobody can mint more (contract §10). */
export function covers(own: KeyPower, wanted: KeyPower): boolean {
  return (
    permissions.every((permission) => may(own, permission) || !may(wanted, permission)) &&
    (own.teamId === null || own.teamId === wanted.teamId) &&
    isWithin(own.modelIds, wanted.modelIds) &&
    // Environments bound inference alone.
    (!may(wanted, 'inference:call') || isWithin(own.environments, wanted.environments))
  )
}

function isWithin(own: readonly string[] | null, wanted: readonly string[] | null): boolean {
  return own === null || (wanted?.every((name) => own.includes(name)) ?? false)
}
