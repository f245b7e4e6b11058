import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  bySlug,
  cascadingViolation,
  type EffectiveModel,
  effectiveModels,
  type GroupOnPath,
  isTighter,
  type LimitEnforcement,
  limitEnforcements,
  limitTypes,
  type ModelLimits,
  rateLimitUnits,
  usageLimitUnits,
} from '../../src/limits/effective-limits.ts'
import { inferenceGroup } from '../support/inference-group.ts'

const numRuns = 1_000
const threshold = fc.integer({ min: 0, max: 4 })
const anySlug = fc.constantFrom('lab/a', 'lab/b', 'lab/c')

/** What contract §7 lets a group declare: at most one rate limit a type, one usage limit a type and unit. */
const anyModel: fc.Arbitrary<ModelLimits> = fc.record({
  slug: anySlug,
  rate_limits: fc.uniqueArray(
    fc.record({ type: fc.constantFrom(...limitTypes), unit: fc.constantFrom(...rateLimitUnits), threshold }),
    { selector: ({ type }) => type },
  ),
  usage_limits: fc.uniqueArray(
    fc.record({ type: fc.constantFrom(...limitTypes), unit: fc.constantFrom(...usageLimitUnits), threshold }),
    { selector: ({ type, unit }) => type + unit },
  ),
})
const anyModels = fc.uniqueArray(anyModel, { selector: ({ slug }) => slug })

/** A tree of groups: each stands below an earlier one, or is a root. */
interface Tree {
  groups: GroupOnPath[]
  parents: (number | null)[]
}

const anyTree: fc.Arbitrary<Tree> = fc
  .array(fc.record({ models: anyModels, parent: fc.option(fc.nat(), { freq: 8 }) }), { minLength: 1, maxLength: 10 })
  .map((nodes) => ({
    groups: nodes.map(({ models }, index) => ({ id: `group-${index}`, models: bySlug(models) })),
    parents: nodes.map(({ parent }, index) => (parent === null || index === 0 ? null : parent % index)),
  }))

test('effective models follow the rules of contract §7 in any tree, in both modes', () => {
  fc.assert(
    fc.property(anyTree, fc.constantFrom(...limitEnforcements), (tree, enforcement) => {
      for (const index of tree.groups.keys()) {
        const path = pathOf(tree, index)
        assert.deepEqual(effectiveModels(enforcement, path), naiveEffectiveModels(enforcement, path))
      }
    }),
    { numRuns },
  )
})

test('a group is counted by its effective limits, whichever model is asked for first, and for no other model', () => {
  fc.assert(
    fc.property(anyTree, fc.constantFrom(...limitEnforcements), fc.array(anySlug), (tree, enforcement, asked) => {
      for (const index of tree.groups.keys()) {
        const path = pathOf(tree, index)
        const group = inferenceGroup(path, enforcement)
        const models = new Map(naiveEffectiveModels(enforcement, path).map((model) => [model.slug, model]))
        for (const slug of asked) {
          const limits = group.buckets(slug)?.buckets.filter(({ threshold }) => threshold !== null)
          const model = models.get(slug)
          assert.deepEqual(
            limits?.map(({ owner, type, unit, threshold }) => ({ owner, type, unit, threshold })),
            model &&
              [...model.rate_limits, ...model.usage_limits].map(({ source_group, ...limit }) => ({
                ...limit,
                owner: enforcement === 'INDEPENDENT' ? group.record.id : source_group,
              })),
          )
        }
      }
    }),
    { numRuns },
  )
})

test('a write is refused exactly when it leaves a pair of limits the wrong way round, above or below', () => {
  fc.assert(
    fc.property(anyTree, fc.nat(), (tree, pick) => {
      const written = pick % tree.groups.length
      const group = groupAt(tree, written)
      const ancestors = pathOf(tree, written).slice(1)
      const descendants = tree.groups.filter((other, index) => other !== group && pathOf(tree, index).includes(group))

      const violation = cascadingViolation(group, { ancestors, descendants })
      const wrong = [
        ...ancestors.flatMap((ancestor) => wrongPairs(ancestor, group)),
        ...descendants.flatMap((descendant) => wrongPairs(group, descendant)),
      ]
      if (violation === null) assert.deepEqual(wrong, [])
      else assert.ok(wrong.includes(JSON.stringify(violation)), 'names a pair that is wrong')
    }),
    { numRuns },
  )
})

test('below a group that a write made no tighter, nothing clashes that did not before', () => {
  fc.assert(
    fc.property(anyModels, anyModels, anyModels, (before, after, below) => {
      const [former, written, descendant] = [groupOf(before), groupOf(after), groupOf(below)]
      const clashes = (group: GroupOnPath) =>
        cascadingViolation(group, { ancestors: [], descendants: [descendant] }) !== null
      assert.ok(clashes(former) || !clashes(written) || isTighter(written, former))
      assert.ok(!isTighter(former, former))
      assert.ok(!isTighter(groupOf(before.map(raised)), former))
      assert.ok(!isTighter(groupOf(before.slice(1)), former))
    }),
    { numRuns: 3_000 },
  )
})

function groupOf(models: ModelLimits[]): GroupOnPath {
  return { id: 'group', models: bySlug(models) }
}

function raised({ slug, rate_limits, usage_limits }: ModelLimits): ModelLimits {
  const byOne = <Limit extends { threshold: number }>(limit: Limit) => ({ ...limit, threshold: limit.threshold + 1 })
  return { slug, rate_limits: rate_limits.map(byOne), usage_limits: usage_limits.map(byOne) }
}

/** The rules once more, the plain way: walk from the group up and write down what applies. */
function naiveEffectiveModels(enforcement: LimitEnforcement, path: readonly GroupOnPath[]): EffectiveModel[] {
  const result: EffectiveModel[] = []
  for (const own of path[0]?.models.values() ?? []) {
    const model: EffectiveModel = { slug: own.slug, rate_limits: [], usage_limits: [] }
    const seen = new Set<string>()
    for (const group of path) {
      for (const declared of group.models.values()) {
        if (declared.slug !== own.slug) continue
        for (const limit of declared.rate_limits) {
          const kind = `rate ${limit.type} ${limit.unit}`
          if (enforcement === 'INDEPENDENT' && seen.has(kind)) continue
          seen.add(kind)
          model.rate_limits.push({ ...limit, source_group: group.id })
        }
        for (const limit of declared.usage_limits) {
          const kind = `usage ${limit.type} ${limit.unit}`
          if (enforcement === 'INDEPENDENT' && seen.has(kind)) continue
          seen.add(kind)
          model.usage_limits.push({ ...limit, source_group: group.id })
        }
      }
    }
    result.push(model)
  }
  return result
}

function wrongPairs(ancestor: GroupOnPath, descendant: GroupOnPath): string[] {
  const pairs: string[] = []
  for (const above of flatLimits(ancestor)) {
    for (const below of flatLimits(descendant)) {
      const { slug, type, unit } = below
      if (above.slug !== slug || above.type !== type || above.unit !== unit) continue
      if (below.threshold <= above.threshold) continue
      pairs.push(
        JSON.stringify({
          slug,
          type,
          unit,
          ancestor: { id: ancestor.id, threshold: above.threshold },
          descendant: { id: descendant.id, threshold: below.threshold },
        }),
      )
    }
  }
  return pairs
}

function flatLimits({ models }: GroupOnPath) {
  return [...models.values()].flatMap(({ slug, rate_limits, usage_limits }) =>
    [...rate_limits, ...usage_limits].map((limit) => ({ slug, ...limit })),
  )
}

function pathOf(tree: Tree, index: number): GroupOnPath[] {
  const parent = tree.parents[index] ?? null
  return [groupAt(tree, index), ...(parent === null ? [] : pathOf(tree, parent))]
}

function groupAt({ groups }: Tree, index: number): GroupOnPath {
  const group = groups[index]
  assert.ok(group)
  return group
}
