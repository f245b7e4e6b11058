import { manage, slug } from '../support/record-under-load.ts'
import type { RestartedServer } from './restarted-server.ts'

/** A customer of the lab. Its key is another one now and then. */
export interface Customer {
  groupId: string
  entityId: string
  key: string
  keyPrefix: string
  /** Of the key before this one; null while there was none. */
  formerKeyPrefix: string | null
  requestsPerMinute: number | null
}

const plans = 5
const customersPerPlan = 8

/**
 * A CASCADING tree of three levels, whose days are counted at each; one customer of each plan is held to a rate that it
 * always asks for more than.
 */
export async function takeOnCustomers(server: RestartedServer): Promise<{ rootId: string; customers: Customer[] }> {
  const rootId = await addGroup(server, { entityId: 'root', hierarchy: { limit_enforcement: 'CASCADING' } })
  const customers: Customer[] = []
  for (let plan = 0; plan < plans; plan++) {
    const planId = await addGroup(server, { entityId: `plan-${plan}`, hierarchy: { parent_group_id: rootId } })
    for (let place = 0; place < customersPerPlan; place++) {
      const entityId = `customer-${plan}-${place}`
      const requestsPerMinute = place === 0 ? 120 : null
      const hierarchy = { parent_group_id: planId }
      const groupId = await addGroup(server, { entityId, requestsPerMinute, hierarchy })
      customers.push({
        groupId,
        entityId,
        requestsPerMinute,
        formerKeyPrefix: null,
        ...(await mintKey(server, groupId)),
      })
    }
  }
  return { rootId, customers }
}

export async function mintKey(server: RestartedServer, groupId: string): Promise<Pick<Customer, 'key' | 'keyPrefix'>> {
  const path = `/v1/gateway/groups/${groupId}/api_keys`
  const { api_key, prefix } = await manage<{ api_key: string; prefix: string }>(server, 'POST', path, {})
  return { key: api_key, keyPrefix: prefix }
}

interface NewGroup {
  entityId: string
  hierarchy: object
  requestsPerMinute?: number | null
}

async function addGroup(
  server: RestartedServer,
  { entityId, hierarchy, requestsPerMinute = null }: NewGroup,
): Promise<string> {
  const daily = (type: string) => ({ type, unit: 'DAY', threshold: 1_000_000_000 })
  const rate = requestsPerMinute === null ? [] : [{ type: 'REQUEST', unit: 'MINUTE', threshold: requestsPerMinute }]
  const { id } = await manage<{ id: string }>(server, 'POST', '/v1/gateway/groups', {
    metadata: { external_entity_id: entityId },
    models: [{ slug, rate_limits: rate, usage_limits: [daily('REQUEST'), daily('TOKEN')] }],
    hierarchy,
  })
  return id
}
