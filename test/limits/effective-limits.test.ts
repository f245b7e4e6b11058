import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bySlug, effectiveModels, type GroupOnPath, type RateLimit } from '../../src/limits/effective-limits.ts'

const perSecond: RateLimit = { type: 'REQUEST', unit: 'SECOND', threshold: 20 }
const perMinute: RateLimit = { type: 'REQUEST', unit: 'MINUTE', threshold: 50 }
const parent = group('parent', { type: 'REQUEST', unit: 'MINUTE', threshold: 100 })

test('an INDEPENDENT limit of another unit stands beside the inherited one', () => {
  assert.deepEqual(effectiveModels('INDEPENDENT', [group('child', perSecond), parent]), [
    {
      slug: 'lab/model',
      rate_limits: [
        { type: 'REQUEST', unit: 'SECOND', threshold: 20, source_group: 'child' },
        { type: 'REQUEST', unit: 'MINUTE', threshold: 100, source_group: 'parent' },
      ],
      usage_limits: [],
    },
  ])
})

test('an INDEPENDENT limit of the same unit replaces the inherited one, also by a higher one', () => {
  for (const threshold of [50, 500]) {
    const [model] = effectiveModels('INDEPENDENT', [group('child', { ...perMinute, threshold }), parent])
    assert.deepEqual(model?.rate_limits, [{ type: 'REQUEST', unit: 'MINUTE', threshold, source_group: 'child' }])
  }
})

test('CASCADING limits of the same unit all hold, nearest first', () => {
  const [model] = effectiveModels('CASCADING', [group('child', perMinute), parent])
  assert.deepEqual(model?.rate_limits, [
    { type: 'REQUEST', unit: 'MINUTE', threshold: 50, source_group: 'child' },
    { type: 'REQUEST', unit: 'MINUTE', threshold: 100, source_group: 'parent' },
  ])
})

test('a group may call the slugs that it lists, and none that only an ancestor lists', () => {
  for (const enforcement of ['INDEPENDENT', 'CASCADING'] as const) {
    assert.deepEqual(effectiveModels(enforcement, [{ id: 'child', models: bySlug([]) }, parent]), [])
  }
})

function group(id: string, rateLimit: RateLimit): GroupOnPath {
  return { id, models: bySlug([{ slug: 'lab/model', rate_limits: [rateLimit], usage_limits: [] }]) }
}
