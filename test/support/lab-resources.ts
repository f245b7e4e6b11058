import assert from 'node:assert/strict'
import type { Lab } from './management-client.ts'

/** Bodies that routes take, by method and path of the document, where `{}` will not do. */
export const validBodies: Record<string, object> = {
  'PATCH /v1/gateway/groups/{group_id}': { metadata: { name: null } },
  'POST /v1/gateway/groups/{group_id}/api_keys/register': { key: 'a'.repeat(40) },
  'POST /v1/gateway/groups/{group_id}/api_keys/{api_key_prefix}/rotate': { grace_seconds: 60 },
  'POST /v1/teams/{team_id}/secrets': { name: 'a', value: 'b' },
  'POST /v1/teams/{team_id}/api_keys': { type: 'WORKSPACE_INVOKE' },
  'PATCH /v1/api_keys/{api_key_prefix}': { name: 'a' },
  'PATCH /v1/gateway/webhooks/{webhook_id}': { retry_window_seconds: 60 },
  'POST /v1/gateway/webhooks/{webhook_id}/redeliver': { status: 'dead' },
  'PATCH /v1/users/{user_id}': { role: 'member' },
}

export interface LabResources {
  /** The path with the resources' ids in the place of its parameters; one that is not known yet fails the test. */
  fill(path: string): string
  /** What other resources and queries refer to them by. */
  ids: string[]
}

/** Makes one resource of each kind in `lab`. `suffix` stands in all names that it gives. */
export async function resourcesOf(lab: Lab, suffix = 'first'): Promise<LabResources> {
  const secret = await lab.ok<{ id: string; name: string }>('POST /v1/secrets', {
    name: `secret-${suffix}`,
    value: 'v',
  })
  const model = await lab.ok<{ id: string }>('POST /v1/models', {
    name: `model ${suffix}`,
    environments: [{ name: 'production', base_url: 'http://127.0.0.1:1/v1' }],
  })
  const endpoint = await lab.ok<{ id: string }>('POST /v1/gateway/endpoints', {
    slug: `${lab.orgPrefix}/${suffix}`,
    targets: [{ provider: 'SELF_HOSTED', model_id: model.id }],
  })
  const group = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
    metadata: { external_entity_id: `customer-${suffix}` },
    models: [{ slug: 'a/b' }],
    hierarchy: {},
  })
  const federatedKey = await lab.ok<{ prefix: string }>(`POST /v1/gateway/groups/${group.id}/api_keys`, {
    name: `key ${suffix}`,
  })
  const webhook = await lab.ok<{ id: string }>('POST /v1/gateway/webhooks', { url: `http://127.0.0.1:9/${suffix}` })
  const domain = await lab.ok<{ id: string }>('POST /v1/gateway/domains', {
    hostname: `${suffix}.${lab.orgPrefix}.example.com`,
  })
  const team = await lab.ok<{ id: string }>('POST /v1/teams', { name: `team ${suffix}` })
  const person = await lab.ok<{ id: string }>('POST /v1/users', { email: `${suffix}@example.com` })
  const workspaceKey = await lab.ok<{ api_key: string }>('POST /v1/api_keys', {
    type: 'WORKSPACE_INVOKE',
    name: suffix,
  })

  const ids: Record<string, string> = {
    workspace_id: lab.workspaceId,
    secret_name: secret.name,
    secret_id: secret.id,
    model_id: model.id,
    endpoint_id: endpoint.id,
    group_id: group.id,
    api_key_prefix: federatedKey.prefix,
    webhook_id: webhook.id,
    team_id: team.id,
    domain_id: domain.id,
    '/v1/gateway/users/ user_id': group.id,
    '/v1/users/ user_id': person.id,
    '/v1/api_keys/ api_key_prefix': prefixOf(workspaceKey.api_key),
  }
  return {
    ids: Object.values(ids),
    fill: (path) =>
      path.replaceAll(/\{(\w+)\}/g, (_, parameter: string) => {
        // The same name may stand for different things: the path says for which.
        const id = ids[`${path.slice(0, path.indexOf('{'))} ${parameter}`] ?? ids[parameter]
        assert.ok(id, `this must learn what the {${parameter}} of ${path} is`)
        return id
      }),
  }
}

function prefixOf(key: string): string {
  return key.slice(0, key.indexOf('.'))
}
