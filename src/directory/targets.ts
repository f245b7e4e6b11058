import { type EndpointTarget, providerWire } from '../providers.ts'
import type { Queries } from '../storage/database.ts'
import { type SecretBox, secretPurpose } from '../storage/secret-box.ts'
import type { EndpointRow } from '../storage/tables.ts'
import type { Target } from './target.ts'

interface Environment {
  name: string
  base_url: string
  secret_id: string | null
}

/** The endpoint's targets ready to be called, in order of priority; one whose model or secret is gone is left out. */
export async function endpointTargets(
  queries: Queries,
  secretBox: SecretBox,
  endpoint: EndpointRow,
): Promise<Target[]> {
  const stored: EndpointTarget[] = JSON.parse(endpoint.targets)
  const environments = await environmentsOf(queries, endpoint.workspace_id, stored)
  const upstreams = stored.map((target) => ({ target, environment: environmentFor(target, environments) }))
  const secrets = await secretsOf(
    queries,
    secretBox,
    endpoint.workspace_id,
    upstreams.map(({ target, environment }) => target.secret_id ?? environment?.secret_id ?? null),
  )
  return upstreams.flatMap(({ target, environment }) => {
    const { baseUrl, credentialHeaders } = providerWire[target.provider]
    const url = environment?.base_url ?? baseUrl(target)
    const secretId = target.secret_id ?? environment?.secret_id ?? null
    const secret = secretId === null ? null : secrets.get(secretId)
    if (url === null || secret === undefined) return []
    const { origin, pathname } = new URL(url)
    return {
      modelId: target.model_id,
      environmentName: environment?.name ?? null,
      origin,
      basePath: pathname.replace(/\/+$/, ''),
      targetModel: target.target_model,
      credentialHeaders: secret === null ? [] : credentialHeaders(secret),
    }
  })
}

async function environmentsOf(
  queries: Queries,
  workspaceId: string,
  targets: readonly EndpointTarget[],
): Promise<ReadonlyMap<string, readonly Environment[]>> {
  const ids = targets.flatMap(({ model_id }) => model_id ?? [])
  if (ids.length === 0) return new Map()
  const rows = await queries
    .selectFrom('models')
    .select(['id', 'environments'])
    .where('workspace_id', '=', workspaceId)
    .where('id', 'in', ids)
    .execute()
  return new Map(rows.map(({ id, environments }) => [id, JSON.parse(environments)]))
}

function environmentFor(
  { model_id, environment_name }: EndpointTarget,
  environments: ReadonlyMap<string, readonly Environment[]>,
): Environment | undefined {
  if (model_id === null) return undefined
  return environments.get(model_id)?.find(({ name }) => name === (environment_name ?? 'production'))
}

async function secretsOf(
  queries: Queries,
  secretBox: SecretBox,
  workspaceId: string,
  secretIds: readonly (string | null)[],
): Promise<ReadonlyMap<string, string>> {
  const ids = secretIds.filter((id) => id !== null)
  if (ids.length === 0) return new Map()
  const rows = await queries
    .selectFrom('secrets')
    .select(['id', 'workspace_id', 'name', 'sealed_value'])
    .where('workspace_id', '=', workspaceId)
    .where('id', 'in', ids)
    .execute()
  return new Map(rows.map((row) => [row.id, secretBox.open(row.sealed_value, secretPurpose(row))]))
}
