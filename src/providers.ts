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

/** How a provider is called. `baseUrl` is null where the target's model says it, or where nothing does. */
interface ProviderWire {
  baseUrl(target: EndpointTarget): string | null
  /** Names and values in turn. */
  credentialHeaders(secret: string): readonly string[]
}

const bearer = (secret: string) => ['authorization', `Bearer ${secret}`]
const modelSaysWhere: ProviderWire = { baseUrl: () => null, credentialHeaders: bearer }

/** Where each provider's OpenAI-compatible API stands, and what it takes for a credential. */
export const providerWire = {
  SELF_HOSTED: modelSaysWhere,
  BASETEN: modelSaysWhere,
  OPENAI: { baseUrl: () => 'https://api.openai.com/v1', credentialHeaders: bearer },
  ANTHROPIC: { baseUrl: () => 'https://api.anthropic.com/v1', credentialHeaders: bearer },
  OPENAI_COMPATIBLE: { baseUrl: ({ base_url }) => base_url, credentialHeaders: bearer },
  VERTEX: { baseUrl: ({ vertex_config }) => vertexBaseUrl(vertex_config), credentialHeaders: bearer },
} satisfies Record<Provider, ProviderWire>

function vertexBaseUrl(config: EndpointTarget['vertex_config']): string | null {
  if (config === null) return null
  const { project_id, location } = config
  const host = location === 'global' ? 'aiplatform.googleapis.com' : `${location}-aiplatform.googleapis.com`
  return `https://${host}/v1/projects/${project_id}/locations/${location}/endpoints/openapi`
}
