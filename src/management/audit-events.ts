import { z } from 'zod'
import type { WorkspaceKeyRow } from '../storage/tables.ts'

const id = z.string()
const slug = z.string()

const ApiKeyType = z
  .enum([
    'PERSONAL',
    'CREATOR_SERVICE_ACCOUNT',
    'MANAGE_API_KEYS_SERVICE_ACCOUNT',
    'INVOKE_ALL_MODELS_SERVICE_ACCOUNT',
    'INVOKE_ALLOWED_MODELS_SERVICE_ACCOUNT',
    'INVOKE_SCOPED_ENVS_AND_MODELS_SERVICE_ACCOUNT',
    'EXPORT_METRICS_ALL_MODELS_SERVICE_ACCOUNT',
    'EXPORT_METRICS_ALLOWED_MODELS_SERVICE_ACCOUNT',
    'INVOKE_ALL_SHARED_ENDPOINTS_SERVICE_ACCOUNT',
    'INVOKE_ALLOWED_SHARED_ENDPOINTS_SERVICE_ACCOUNT',
  ])
  .meta({ id: 'AuditLogApiKeyTypeV1' })

/** What a filter for a group of events can name. */
export const auditEventGroups = [
  'DEPLOYED',
  'PROMOTED',
  'ACTIVATED_DEACTIVATED',
  'AUTOSCALING_SETTINGS',
  'REQUEST_BACKPRESSURE_SETTINGS',
  'INSTANCE_TYPE_CHANGED',
  'ENVIRONMENT_SETTINGS',
  'REPLICA_TERMINATED',
  'DELETED',
  'SECRETS',
  'API_KEYS',
  'GATEWAY',
  'WEBHOOK_SIGNING_SECRETS',
  'USER_MANAGEMENT',
  'DIRECTORY_GROUP_MANAGEMENT',
  'SSH',
  'WORKSPACE',
] as const
export type AuditEventGroup = (typeof auditEventGroups)[number]

const workspaceKey = { api_key_id: id, api_key_type: ApiKeyType, prefix: id }
const secret = { secret_id: id, secret_name: z.string() }
const model = { model_id: id, model_name: z.string() }
const modelWithEnvironments = { ...model, environment_names: z.array(z.string()) }
const endpoint = { gateway_endpoint_id: id, slug }
const group = { group_id: id, external_entity_id: id }
const federatedUser = { user_id: id, customer_id: id }
const federatedKey = { prefix: id, group_id: id }
const webhook = { webhook_id: id }
const signingSecret = { webhook_signing_secret_id: id }
const domain = { domain_id: id, hostname: z.string() }
const team = { team_id: id, team_name: z.string() }
const workspace = { workspace_id: id, workspace_name: z.string() }

/**
 * Everything that the audit log tells of: ids and names, never a secret (contract §15). A write route names one of
 * these, or does not compile.
 */
const events = {
  API_KEY_CREATED: event('API_KEYS', workspaceKey),
  API_KEY_UPDATED: event('API_KEYS', workspaceKey),
  API_KEY_DELETED: event('API_KEYS', workspaceKey),
  SECRET_UPDATED: event('SECRETS', secret),
  SECRET_DELETED: event('SECRETS', secret),
  MODEL_CREATED: event('DEPLOYED', modelWithEnvironments),
  MODEL_UPDATED: event('ENVIRONMENT_SETTINGS', modelWithEnvironments),
  MODEL_DELETED: event('DELETED', model),
  GATEWAY_ENDPOINT_CREATED: event('GATEWAY', endpoint),
  GATEWAY_ENDPOINT_UPDATED: event('GATEWAY', { ...endpoint, previous_slug: slug.nullable() }),
  GATEWAY_ENDPOINT_DELETED: event('GATEWAY', endpoint),
  GROUP_CREATED: event('GATEWAY', group),
  GROUP_UPDATED: event('GATEWAY', group),
  GROUP_DELETED: event('GATEWAY', group),
  FEDERATED_USER_CREATED: event('GATEWAY', federatedUser),
  FEDERATED_USER_UPDATED: event('GATEWAY', federatedUser),
  FEDERATED_USER_DELETED: event('GATEWAY', federatedUser),
  FEDERATED_KEY_CREATED: event('GATEWAY', federatedKey),
  FEDERATED_KEY_REGISTERED: event('GATEWAY', federatedKey),
  FEDERATED_KEY_ROTATED: event('GATEWAY', { ...federatedKey, previous_prefix: id }),
  FEDERATED_KEY_DELETED: event('GATEWAY', federatedKey),
  DOMAIN_CREATED: event('GATEWAY', domain),
  DOMAIN_DELETED: event('GATEWAY', domain),
  WEBHOOK_CREATED: event('GATEWAY', webhook),
  WEBHOOK_UPDATED: event('GATEWAY', webhook),
  WEBHOOK_TESTED: event('GATEWAY', webhook),
  WEBHOOK_REDELIVERED: event('GATEWAY', webhook),
  WEBHOOK_DELETED: event('GATEWAY', webhook),
  WEBHOOK_SIGNING_SECRET_CREATED: event('WEBHOOK_SIGNING_SECRETS', signingSecret),
  WEBHOOK_SIGNING_SECRET_ROTATED: event('WEBHOOK_SIGNING_SECRETS', signingSecret),
  WEBHOOK_SIGNING_SECRET_DELETED: event('WEBHOOK_SIGNING_SECRETS', signingSecret),
  USER_INVITED: event('USER_MANAGEMENT', { invited_user_email: z.string(), role_name: z.string() }),
  USER_JOINED_ORGANIZATION: event('USER_MANAGEMENT', { new_user_email: z.string(), user_id: id }),
  USER_ROLE_UPDATED: event('USER_MANAGEMENT', { user_id: id, user_email: z.string(), new_role_name: z.string() }),
  USER_TEAM_ROLE_UPDATED: event('USER_MANAGEMENT', {
    user_id: id,
    user_email: z.string(),
    ...team,
    new_role_name: z.string(),
  }),
  USER_REMOVED: event('USER_MANAGEMENT', { removed_user_email: z.string() }),
  TEAM_CREATED: event('USER_MANAGEMENT', team),
  TEAM_DELETED: event('USER_MANAGEMENT', team),
  WORKSPACE_CREATED: event('WORKSPACE', workspace),
  WORKSPACE_UPDATED: event('WORKSPACE', workspace),
  WORKSPACE_DELETED: event('WORKSPACE', workspace),
}

export type AuditEventType = keyof typeof events
export type AuditEvent = {
  [Type in AuditEventType]: { event_type: Type } & z.output<z.ZodObject<(typeof events)[Type]['fields']>>
}[AuditEventType]

export const auditEventTypes = Object.keys(events) as AuditEventType[]

/** The types of all events of `groups`. */
export function typesOfGroups(groups: readonly AuditEventGroup[]): AuditEventType[] {
  return auditEventTypes.filter((type) => groups.includes(events[type].group))
}

const [firstSchema = schemaOf('API_KEY_CREATED'), ...otherSchemas] = auditEventTypes.map(schemaOf)
/** Any one of the events. */
export const AuditEventData = z.discriminatedUnion('event_type', [firstSchema, ...otherSchemas])

/** A workspace key as audit events name it. */
export function auditedKey(key: Pick<WorkspaceKeyRow, 'id' | 'prefix' | 'type' | 'model_ids' | 'environments'>) {
  return { api_key_id: key.id, prefix: key.prefix, api_key_type: auditedType(key) }
}

function auditedType({
  type,
  model_ids,
  environments,
}: Pick<WorkspaceKeyRow, 'type' | 'model_ids' | 'environments'>): z.output<typeof ApiKeyType> {
  switch (type) {
    case 'PERSONAL':
      return 'PERSONAL'
    case 'WORKSPACE_MANAGE_ALL':
      return 'CREATOR_SERVICE_ACCOUNT'
    case 'WORKSPACE_MANAGE_API_KEYS':
      return 'MANAGE_API_KEYS_SERVICE_ACCOUNT'
    case 'WORKSPACE_EXPORT_METRICS':
      return model_ids === null
        ? 'EXPORT_METRICS_ALL_MODELS_SERVICE_ACCOUNT'
        : 'EXPORT_METRICS_ALLOWED_MODELS_SERVICE_ACCOUNT'
    case 'WORKSPACE_INVOKE':
      if (environments !== null) return 'INVOKE_SCOPED_ENVS_AND_MODELS_SERVICE_ACCOUNT'
      return model_ids === null ? 'INVOKE_ALL_MODELS_SERVICE_ACCOUNT' : 'INVOKE_ALLOWED_MODELS_SERVICE_ACCOUNT'
  }
}

function event<Fields extends z.ZodRawShape>(group: AuditEventGroup, fields: Fields) {
  return { group, fields }
}

function schemaOf(type: AuditEventType) {
  const fields: z.ZodRawShape = events[type].fields
  return z.strictObject({ event_type: z.literal(type), ...fields }).meta({ id: schemaName(type) })
}

/** `API_KEY_CREATED` is `AuditLogEventApiKeyCreatedV1`. */
function schemaName(type: AuditEventType): string {
  const words = type.split('_').map((word) => word.charAt(0) + word.slice(1).toLowerCase())
  return `AuditLogEvent${words.join('')}V1`
}
