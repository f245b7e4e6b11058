import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bucketSet, countedGroups } from '../../src/limits/buckets.ts'
import { bySlug, type GroupOnPath, type ModelLimits } from '../../src/limits/effective-limits.ts'

const slug = 'lab/model'

function group(id: string, limits: Partial<ModelLimits>): GroupOnPath {
  return { id, models: bySlug([{ slug, rate_limits: [], usage_limits: [], ...limits }]) }
}

const path = [
  group('child', { rate_limits: [{ type: 'REQUEST', unit: 'SECOND', threshold: 20 }] }),
  group('parent', { rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 100 }] }),
  group('root', { usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 9_000 }] }),
]

/** A bucket in one line: owner, type, unit, threshold, scope. */
function lines({ buckets }: ReturnType<typeof bucketSet>): string[] {
  return buckets.map(({ owner, type, unit, threshold, scope }) => `${owner} ${type} ${unit} ${threshold} ${scope}`)
}

test('an INDEPENDENT group counts for itself alone, also against the limits that it inherits', () => {
  assert.deepEqual(lines(bucketSet('INDEPENDENT', path, slug)), [
    'child REQUEST SECOND 20 group',
    'child REQUEST MINUTE 100 parent',
    'child TOKEN DAY 9000 parent',
    'child REQUEST DAY null group',
  ])
  assert.deepEqual(countedGroups('INDEPENDENT', path), ['child'])
})

test('a CASCADING group counts against each limit at the group that declared it, and by day everywhere', () => {
  assert.deepEqual(lines(bucketSet('CASCADING', path, slug)), [
    'child REQUEST SECOND 20 group',
    'parent REQUEST MINUTE 100 parent',
    'root TOKEN DAY 9000 parent',
    'child REQUEST DAY null group',
    'child TOKEN DAY null group',
    'parent REQUEST DAY null parent',
    'parent TOKEN DAY null parent',
    'root REQUEST DAY null parent',
  ])
  assert.deepEqual(countedGroups('CASCADING', path), ['child', 'parent', 'root'])
})

test('no two buckets of a request are one counter, and all name the root of their hierarchy', () => {
  for (const enforcement of ['INDEPENDENT', 'CASCADING'] as const) {
    const { hierarchy, buckets } = bucketSet(enforcement, path, slug)
    assert.equal(hierarchy, 'root')
    assert.equal(new Set(buckets.map(({ key }) => key)).size, buckets.length)
  }
})

test('a new threshold keeps the counter, and another unit is another counter', () => {
  const keyWith = (unit: 'SECOND' | 'MINUTE', threshold: number) =>
    bucketSet('INDEPENDENT', [group('child', { rate_limits: [{ type: 'REQUEST', unit, threshold }] })], slug).buckets[0]
      ?.key
  assert.equal(keyWith('SECOND', 1), keyWith('SECOND', 2))
  assert.notEqual(keyWith('SECOND', 1), keyWith('MINUTE', 1))
})

test('a slug that the group does not list has no buckets to be counted by', () => {
  assert.throws(() => bucketSet('CASCADING', path, 'lab/other'), /does not list lab\/other/)
  assert.throws(() => bucketSet('CASCADING', [], slug))
})
