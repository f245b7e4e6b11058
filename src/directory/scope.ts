import type { Target } from './target.ts'

/** What a workspace key's inference is narrowed to (contract §10); null is not at all. */
export interface Scope {
  modelIds: readonly string[] | null
  environments: readonly string[] | null
}

/** Whether a key of this scope may be served by `target`. What is no registered model is in no narrower scope. */
export function reaches({ modelIds, environments }: Scope, { modelId, environmentName }: Target): boolean {
  return (
    (modelIds === null || (modelId !== null && modelIds.includes(modelId))) &&
    (environments === null || (environmentName !== null && environments.includes(environmentName)))
  )
}
