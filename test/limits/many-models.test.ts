import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bySlug,
  cascadingViolation,
  effectiveModels,
  type GroupOnPath,
  type LimitEnforcement,
  limitEnforcements,
} from '../../src/limits/effective-limits.ts'
import { inferenceGroup } from '../support/inference-group.ts'

const ids = ['child', 'parent', 'root']

/** How often a path's models were looked at: a look-up is once, going through a group's models once for each of them. */
class Looks {
  count = 0

  path(models: number): GroupOnPath[] {
    return ids.map((id) => this.group(id, models))
  }

  group(id: string, models: number): GroupOnPath {
    const declared = Array.from({ length: models }, (_, index) => ({
      slug: `lab/${index}`,
      rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 5 }] as const,
      usage_limits: [],
    }))
    const watched = bySlug(declared.map((model) => this.#watch(model, () => 1)))
    this.count = 0
    return { id, models: this.#watch(watched, (name) => (name === 'get' || name === 'has' ? 1 : models)) }
  }

  #watch<Watched extends object>(watched: Watched, looks: (name: string | symbol) => number): Watched {
    return new Proxy(watched, {
      get: (target, name) => {
        this.count += looks(name)
        const member: unknown = Reflect.get(target, name, target)
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
  }
}

for (const [name, use] of Object.entries({
  'effective models': (path, enforcement) => effectiveModels(enforcement, path),
  'the check against an ancestor': ([group, ...ancestors]) =>
    group && cascadingViolation(group, { ancestors, descendants: [] }),
  'the check against a descendant': ([group, ...descendants]) =>
    group && cascadingViolation(group, { ancestors: [], descendants }),
  'the buckets of every model': (path, enforcement) => {
    const group = inferenceGroup(path, enforcement)
    for (const slug of group.record.models.keys()) group.buckets(slug)
  },
} satisfies Record<string, (path: GroupOnPath[], enforcement: LimitEnforcement) => unknown>)) {
  test(`twice as many models are twice the work for ${name}`, () => {
    for (const enforcement of limitEnforcements) {
      const looksFor = (models: number) => {
        const looks = new Looks()
        use(looks.path(models), enforcement)
        return looks.count
      }
      assert.ok(looksFor(50) >= 50)
      assert.equal(looksFor(100), 2 * looksFor(50))
    }
  })
}

test('what a child shows takes no more work below a parent of many models', () => {
  const looksBelow = (models: number) => {
    const looks = new Looks()
    effectiveModels('CASCADING', [looks.group('child', 1), looks.group('parent', models)])
    return looks.count
  }
  assert.equal(looksBelow(100), looksBelow(1))
})

test('a group is made without a look at its models, and finds the buckets of a request once', () => {
  for (const enforcement of limitEnforcements) {
    const looks = new Looks()
    const group = inferenceGroup(looks.path(50), enforcement)
    assert.equal(looks.count, 0)
    const buckets = group.buckets('lab/7')
    assert.ok(buckets)
    looks.count = 0
    assert.equal(group.buckets('lab/7'), buckets)
    assert.equal(looks.count, 0)
  }
})
