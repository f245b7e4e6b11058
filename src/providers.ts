export const providers = ['SELF_HOSTED', 'BASETEN', 'OPENAI', 'ANTHROPIC', 'OPENAI_COMPATIBLE', 'VERTEX'] as const
export type Provider = (typeof providers)[number]

/** One place that may serve an endpoint, as it is written and stored; what its provider does not take is null. */
export interface EndpointTarget {
  provider: Provider
  model_id: string | null
  environment_name: string | null
  target_model: string | null
  base_url: string | null
  secret_id: string | null
  vertex_config: { project_id: string; location: string } | null
}

export type TargetField = Exclude<keyof EndpointTarget, 'provider'>

export interface TargetFields {
  required: readonly TargetField[]
  optional: readonly TargetField[]
}

const ownModel: TargetFields = { required: ['model_id'], optional: ['environment_name', 'target_model'] }
const hosted: TargetFields = { required: ['secret_id', 'target_model'], optional: [] }

/** What a target of each provider is made of; any other field is refused (contract §6). */
export const targetFields = {
  SELF_HOSTED: ownModel,
  BASETEN: ownModel,
  OPENAI: hosted,
  ANTHROPIC: hosted,
  OPENAI_COMPATIBLE: { required: ['base_url'], optional: ['target_model', 'secret_id'] },
  VERTEX: { required: ['vertex_config', 'secret_id', 'target_model'], optional: [] },
} satisfies Record<Provider, TargetFields>
