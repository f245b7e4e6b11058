import { publicPrefix } from '../../src/access/api-key.ts'
import type { Management, ManagementClient } from './management-client.ts'

/** A workspace key as lists show it. */
export interface ListedKey {
  prefix: string
  name: string | null
  type: string
  model_ids: string[] | null
  environments: string[] | null
  team_name: string | null
  owner: { user_id: string; email: string | null; name: string | null } | null
  created_at: string
  last_used_at: string | null
}

export async function keysOf(caller: ManagementClient): Promise<ListedKey[]> {
  return (await caller.ok<{ keys: ListedKey[] }>('GET /v1/api_keys')).keys
}

/** A client that calls with the key that `caller` mints for it. */
export async function mintFor(
  { management, caller }: { management: Management; caller: ManagementClient },
  body: object,
  path = '/v1/api_keys',
): Promise<ManagementClient & { key: string; prefix: string }> {
  const { api_key } = await caller.ok<{ api_key: string }>(`POST ${path}`, body)
  return Object.assign(management.caller(api_key), { key: api_key, prefix: publicPrefix(api_key) })
}
