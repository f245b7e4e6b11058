import { z } from 'zod'
import type { Metrics } from '../metrics.ts'
import { defineRoute, type Route } from './route.ts'

/** `/metrics` for Prometheus (contract §15). */
export function metricsRoutes({ metrics }: { metrics: Metrics }): Route[] {
  return [
    defineRoute({
      method: 'GET',
      path: '/metrics',
      permission: 'metrics:view',
      summary: 'Metrics in the text format of Prometheus',
      tag: 'Metrics',
      response: z.string(),
      contentType: metrics.registry.contentType,
      handler: () => metrics.registry.metrics(),
    }),
  ]
}
