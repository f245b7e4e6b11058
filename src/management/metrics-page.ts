import { LRUCache } from 'lru-cache'
import { z } from 'zod'
import { UnavailableError } from '../errors.ts'
import { prometheusContentType } from '../metrics.ts'
import type { EndpointTarget } from '../providers.ts'
import type { Queries } from '../storage/database.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { defineRoute, type Route } from './route.ts'

export interface MetricsParts {
  /** The node's metrics, in the text format of Prometheus. */
  metricsText: () => Promise<string>
}

/** `/metrics` for Prometheus (contract §15). */
export function metricsRoutes({ metricsText }: MetricsParts): Route[] {
  const lastSlugs = new LRUCache<string, ReadonlySet<string>>({ max: 1_000 })
  return [
    defineRoute({
      method: 'GET',
      path: '/metrics',
      permission: 'metrics:view',
      summary: "Metrics in the text format of Prometheus: the node's own, and those of the workspace's slugs",
      tag: 'Metrics',
      response: z.string(),
      contentType: prometheusContentType,
      // That the database is away is told here.
      outlivesDatabase: true,
      handler: async ({ workspace, actor, queries }) => {
        const slugs = await slugsInSight({ workspace, actor }, queries).catch((error: unknown) => {
          const last = error instanceof UnavailableError ? lastSlugs.get(actor.prefix) : undefined
          if (last === undefined) throw error
          return last
        })
        lastSlugs.set(actor.prefix, slugs)
        return linesInSight(await metricsText(), { slugs, showsNode: actor.modelIds === null })
      },
    }),
  ]
}

/** The slugs of the workspace; for a key that is narrowed to some models, those that they serve. */
async function slugsInSight({ workspace, actor }: WorkspaceCaller, queries: Queries): Promise<ReadonlySet<string>> {
  const endpoints = await queries
    .selectFrom('endpoints')
    .select(['slug', 'targets'])
    .where('workspace_id', '=', workspace.id)
    .execute()
  const { modelIds } = actor
  const isServedByOne = (targets: readonly EndpointTarget[]) =>
    modelIds === null || targets.some(({ model_id }) => model_id !== null && modelIds.includes(model_id))
  return new Set(endpoints.filter(({ targets }) => isServedByOne(JSON.parse(targets))).map(({ slug }) => slug))
}

/** What stands for a slug where a request led to no endpoint. */
const noSlug = 'none'

/** The series of `slugs`, and with `showsNode` those that are about no slug: a node serves all workspaces. */
function linesInSight(text: string, { slugs, showsNode }: { slugs: ReadonlySet<string>; showsNode: boolean }): string {
  return text
    .split('\n')
    .filter((line) => {
      if (line === '' || line.startsWith('#')) return true
      const slug = /[{,]slug="([^"]*)"/.exec(line)?.[1] ?? noSlug
      return slug === noSlug ? showsNode : slugs.has(slug)
    })
    .join('\n')
}
