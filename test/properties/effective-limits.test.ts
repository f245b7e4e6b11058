import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  cascadingViolation,
  type EffectiveModel,
  effectiveModels,
  type GroupOnPath,
  type LimitEnforcement,
  limitEnforcements,
  limitTypes,
  type ModelLimits,
  rateLimitUnits,
  usageLimitUnits,
} from '../../src/limits/effective-limits.ts'

const numRuns = 1_000
const threshold = fc.integer({ min: 0, max: 4 })

/** What contract §7 lets a group declare: at most one rate limit a type, one usage limit a type and unit. */
const anyModel: fc.Arbitrary<ModelLimits> = fc.record({
  slug: fc.constantFrom('lab/a', 'lab/b', 'lab/c'),
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
    groups: nodes.map(({ models }, index) => ({ id: `group-${index}`, models })),
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

/** The rules once more, the plain way: walk from the group up and write down what applies. */
function naiveEffectiveModels(enforcement: LimitEnforcement, path: readonly GroupOnPath[]): EffectiveModel[] {
  const result: EffectiveModel[] = []
  for (const own of path[0]?.models ?? []) {
    const model: EffectiveModel = { slug: own.slug, rate_limits: [], usage_limits: [] }
    const seen = new Set<string>()
    for (const group of path) {
      for (const declared of group.models) {
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
  return models.flatMap(({ slug, rate_limits, usage_limits }) =>
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
