import { z } from 'zod'
import type { CounterStore, DayUsage } from '../limits/counter-store.ts'
import { effectiveModels, type LimitType } from '../limits/effective-limits.ts'
import { findUser } from './federated-user-row.ts'
import { findPath, type GroupPath } from './group-tree.ts'
import { EffectiveUsageLimit } from './model-config.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

const UsageOfLimit = EffectiveUsageLimit.extend({
  current_usage: z.int().nullable().describe("Counted today; null until the day's first request."),
  reset_at: Timestamp.nullable().describe("When the day ends; null until the day's first request."),
}).meta({ id: 'UsageOfLimitV1' })

const GroupUsage = z
  .object({
    customer_id: z.string(),
    external_entity_id: z.string(),
    usage: z.record(z.string(), z.array(UsageOfLimit)).describe('By slug: only slugs that have a usage limit.'),
  })
  .meta({ id: 'GroupUsageV1' })
type GroupUsage = z.output<typeof GroupUsage>

export interface GroupUsageParts {
  counters: Pick<CounterStore, 'dayUsage'>
}

/** How much of a group's daily limits is used up (contract §13). */
export function groupUsageRoutes({ counters }: GroupUsageParts): Route[] {
  return [
    defineRoute({
      method: 'GET',
      path: '/v1/gateway/groups/{group_id}/usage',
      permission: 'groups:view',
      summary: "Get a group's usage today, by its effective usage limits",
      tag: 'Groups',
      response: GroupUsage,
      handler: async ({ workspace, params, queries }) =>
        groupUsage(await findPath(workspace.id, params.group_id, queries), counters),
    }),
    defineRoute({
      method: 'GET',
      path: '/v1/gateway/users/{user_id}/usage',
      permission: 'groups:view',
      summary: "Get a user's usage today, by its usage limits",
      tag: 'Federated users',
      response: GroupUsage,
      handler: async ({ workspace, params, queries }) => {
        const user = await findUser(workspace.id, params.user_id, queries)
        return groupUsage(await findPath(workspace.id, user.id, queries), counters)
      },
    }),
  ]
}

async function groupUsage(path: GroupPath, counters: GroupUsageParts['counters']): Promise<GroupUsage> {
  const [group, ...ancestors] = path
  const hierarchy = ancestors.at(-1)?.id ?? group.id
  const limited = effectiveModels(group.limit_enforcement, path).filter(({ usage_limits }) => usage_limits.length > 0)
  const slugs = limited.map(({ slug }) => slug)
  const owners = group.limit_enforcement === 'INDEPENDENT' ? [group.id] : path.map(({ id }) => id)
  const usageByOwner = new Map(
    await Promise.all(
      owners.map(async (owner) => [owner, await counters.dayUsage({ hierarchy, owner, slugs })] as const),
    ),
  )
  // INDEPENDENT counts the calling group alone, also where it inherited the limit (contract §12).
  const ownerOf = (sourceGroup: string) => (group.limit_enforcement === 'INDEPENDENT' ? group.id : sourceGroup)

  return {
    customer_id: group.external_entity_id,
    external_entity_id: group.external_entity_id,
    usage: Object.fromEntries(
      limited.map(({ slug, usage_limits }) => [
        slug,
        usage_limits.map((limit) => {
          const usage = usageByOwner.get(ownerOf(limit.source_group))?.get(slug)
          return {
            ...limit,
            current_usage: usage === undefined ? null : usage[countOf[limit.type]],
            reset_at: usage === undefined ? null : timestamp(usage.resetAtMs),
          }
        }),
      ]),
    ),
  }
}

const countOf = { REQUEST: 'requests', TOKEN: 'tokens' } satisfies Record<LimitType, keyof DayUsage>
