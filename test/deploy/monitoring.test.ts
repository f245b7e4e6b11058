import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parser } from '@prometheus-io/lezer-promql'
import { z } from 'zod'
import { openMetrics } from '../../src/metrics.ts'
import { readDocument, readText } from './deployment-files.ts'

/** Alarms, dashboard and runbook, against the series that a node has. */
const Rules = z.object({
  groups: z.array(
    z.object({
      name: z.string(),
      rules: z.array(
        z.object({
          alert: z.string(),
          expr: z.string(),
          for: z.string().optional(),
          labels: z.object({ severity: z.enum(['page', 'ticket']) }),
          annotations: z.object({ summary: z.string(), runbook_url: z.string() }),
        }),
      ),
    }),
  ),
})
const rules = readDocument('deploy/prometheus/alerts.yml', Rules)
const alarms = rules.groups.flatMap((group) => group.rules)

const Panel = z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })).default([]) })
const dashboard = z.object({ panels: z.array(Panel) }).parse(JSON.parse(readText('deploy/grafana/tollgate.json')))
const dashboardExpressions = dashboard.panels.flatMap(({ targets }) =>
  targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m')),
)

const metrics = z
  .array(
    z.object({
      name: z.string(),
      help: z.string(),
      type: z.enum(['counter', 'gauge', 'histogram']),
      labelNames: z.array(z.string()),
    }),
  )
  .parse(openMetrics().registry.getMetricsAsArray())

/** Whose labels we do not know: Prometheus's own, and Kubernetes's. */
const foreignSeries = ['up', 'kubelet_volume_stats_available_bytes', 'kubelet_volume_stats_capacity_bytes']

describe('alarms and dashboard', () => {
  test('ask for series and labels that a node has, in PromQL', () => {
    for (const expression of [...alarms.map(({ expr }) => expr), ...dashboardExpressions]) {
      const { series, labels } = namesIn(expression)
      const unknown = series.filter((name) => !foreignSeries.includes(name) && metricOf(name) === undefined)
      assert.deepEqual(unknown, [], expression)
      if (series.some((name) => foreignSeries.includes(name))) continue
      const known = new Set(['job', 'instance', 'le', ...series.flatMap((name) => metricOf(name)?.labelNames ?? [])])
      assert.deepEqual(
        labels.filter((label) => !known.has(label)),
        [],
        expression,
      )
    }
  })

  test('show every series that is not about the process alone', () => {
    const shown = new Set(dashboardExpressions.flatMap((expression) => namesIn(expression).series.map(metricOf)))
    const missing = metrics.filter((metric) => !/^tollgate_(process|nodejs)_/.test(metric.name) && !shown.has(metric))
    assert.deepEqual(
      missing.map(({ name }) => name),
      [],
    )
  })

  test('raise an alarm on every series whose help asks for one', () => {
    const watched = new Set(alarms.flatMap(({ expr }) => namesIn(expr).series.map(metricOf)))
    const missing = metrics.filter((metric) => /raise an alarm/i.test(metric.help) && !watched.has(metric))
    assert.deepEqual(
      missing.map(({ name }) => name),
      [],
    )
  })

  test('are the same rules for the Prometheus operator', () => {
    const { spec } = readDocument('deploy/kubernetes/monitoring/prometheus-rule.yaml', z.object({ spec: Rules }))
    assert.deepEqual(spec, rules)
  })

  test('send whoever is woken to a section of the runbook, which has no other ones', () => {
    const sections = [...readText('docs/operations.md').matchAll(/^### (Tollgate\w+)$/gm)].map(([, name]) => name)
    assert.deepEqual(
      sections,
      alarms.map(({ alert }) => alert),
    )
    for (const { alert, annotations } of alarms) {
      assert.equal(annotations.runbook_url, `docs/operations.md#${alert.toLowerCase()}`)
    }
  })
})

/** The series and the labels that an expression names. Throws on what is no PromQL. */
function namesIn(expression: string): { series: string[]; labels: string[] } {
  const series: string[] = []
  const labels: string[] = []
  parser.parse(expression).iterate({
    enter({ name, from, to, type }) {
      if (type.isError) throw new Error(`This is no PromQL at ${from}: ${expression}`)
      if (name === 'Identifier') series.push(expression.slice(from, to))
      if (name === 'LabelName') labels.push(expression.slice(from, to))
    },
  })
  return { series, labels }
}

function metricOf(series: string) {
  return metrics.find(
    ({ name, type }) =>
      name === series || (type === 'histogram' && new RegExp(`^${name}_(bucket|sum|count)$`).test(series)),
  )
}
