import { z } from 'zod'
import { type EndpointTarget, providers, type TargetField, type TargetFields, targetFields } from '../providers.ts'
import { UpstreamUrl } from './upstream-url.ts'

const GatewayProvider = z.enum(providers).meta({ id: 'GatewayProvider' })

const VertexTargetConfig = z
  .strictObject({
    project_id: z
      .string()
      .max(128)
      .regex(/^[a-z0-9.:-]+$/, 'Must be the id of a Google Cloud project.'),
    location: z
      .string()
      .max(64)
      .regex(/^[a-z0-9-]+$/, 'Must be a location like europe-west4 or global.'),
  })
  .meta({ id: 'VertexTargetConfigV1' })

const fields = {
  provider: GatewayProvider,
  model_id: z.string().nullable().default(null).describe('A registered model.'),
  environment_name: z.string().nullable().default(null).describe('Of that model; left out: production.'),
  target_model: z.string().min(1).max(255).nullable().default(null).describe("The model's name upstream."),
  base_url: UpstreamUrl.nullable().default(null),
  secret_id: z.string().nullable().default(null).describe('The credential that is sent upstream.'),
  vertex_config: VertexTargetConfig.nullable().default(null),
}

/** A target as it is read. */
export const EndpointTargetAnswer = z.object(fields).meta({ id: 'EndpointTargetV1' })

/** A target as it is written: with all that its provider needs, and nothing that it does not take (contract §6). */
export const EndpointTargetRequest = z
  .strictObject(fields)
  .check(({ value, issues }) => {
    for (const [field, message] of faults(value)) issues.push({ code: 'custom', input: value, path: [field], message })
  })
  .meta({ id: 'EndpointTargetRequestV1' })

function faults(target: EndpointTarget): [TargetField, string][] {
  const { provider, ...given } = target
  const { required, optional }: TargetFields = targetFields[provider]
  const missing = required.filter((field) => given[field] === null)
  const foreign = Object.keys(fields)
    .filter((field): field is TargetField => field !== 'provider')
    .filter((field) => given[field] !== null && !required.includes(field) && !optional.includes(field))
  return [
    ...missing.map((field): [TargetField, string] => [field, `A target of ${provider} needs it.`]),
    ...foreign.map((field): [TargetField, string] => [field, `A target of ${provider} does not take it.`]),
  ]
}
