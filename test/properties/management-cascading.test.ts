import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

interface Limit {
  type: string
  unit: string
  threshold: number
}

interface Group {
  id: string
  models: { slug: string; rate_limits: Limit[]; usage_limits: Limit[] }[]
  hierarchy: { parent_group_id: string | null }
}

type Write = { kind: 'create' | 'patch'; at: number; models: Record<string, Limit[]> }

const limits = fc.uniqueArray(
  fc.record({
    type: fc.constantFrom('REQUEST', 'TOKEN'),
    unit: fc.constantFrom('SECOND', 'MINUTE', 'DAY'),
    threshold: fc.integer({ min: 0, max: 6 }),
  }),
  { selector: ({ type, unit }) => `${type} ${unit}`, maxLength: 4 },
)
const models = fc.dictionary(fc.constantFrom('a/one', 'a/two'), limits, { minKeys: 1 })
const writes = fc.array(
  fc.array(fc.record({ kind: fc.constantFrom('create' as const, 'patch' as const), at: fc.nat(), models }), {
    minLength: 1,
    maxLength: 3,
  }),
  { maxLength: 8 },
)

test('whatever is written, one at a time or at once, no group of a CASCADING tree exceeds one above it', async () => {
  const clock = new ManualClock()
  await using management = await startManagement({ clock })
  await fc.assert(
    fc.asyncProperty(models, writes, (first, rounds) => {
      clock.advance(1_000)
      return keepsTheRule(management, first, rounds)
    }),
    { numRuns: 30 },
  )
})

/** Sends each round's writes at the same moment; a refused one must have been one that breaks the rule. */
async function keepsTheRule(management: Management, first: Write['models'], rounds: Write[][]): Promise<void> {
  const lab = await management.lab()
  let entities = 0
  const create = (given: Write['models'], parent: Group | null) => {
    entities += 1
    return lab.call<Group>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: String(entities) },
      models: toModels(given),
      hierarchy: { limit_enforcement: 'CASCADING', parent_group_id: parent?.id ?? null },
    })
  }
  await create(first, null)
  for (const round of rounds) {
    const groups = await groupsOf(lab)
    const answers = await Promise.all(
      round.map(({ kind, at, models }) => {
        const group = groups[at % groups.length] ?? null
        return kind === 'create' || group === null
          ? create(models, group)
          : lab.call<Group>(`PATCH /v1/gateway/groups/${group.id}`, { models: toModels(models) })
      }),
    )
    const [write, answer] = [round[0], answers[0]]
    const after = await groupsOf(lab)
    assert.deepEqual(violations(after), [])
    if (round.length > 1 || write === undefined || answer === undefined) continue
    const attempted = withWrite(groups, write)
    const wanted = violations(attempted).length === 0 && depth(attempted) <= 5 ? 200 : 400
    assert.equal(answer.status, wanted, JSON.stringify(answer.body))
  }
}

async function groupsOf(lab: Lab): Promise<Group[]> {
  return (await lab.ok<Page<Group>>('GET /v1/gateway/groups?limit=1000')).items
}

function toModels(given: Write['models']): Group['models'] {
  return Object.entries(given).map(([slug, all]) => ({
    slug,
    rate_limits: all.filter(({ unit }) => unit !== 'DAY'),
    usage_limits: all.filter(({ unit }) => unit === 'DAY'),
  }))
}

/** The tree as it would be if the write were taken as it is. */
function withWrite(groups: Group[], { kind, at, models }: Write): Group[] {
  const target = groups[at % groups.length]
  if (kind === 'patch') {
    return groups.map((group) => (group === target ? { ...group, models: toModels(models) } : group))
  }
  return [...groups, { id: 'new', models: toModels(models), hierarchy: { parent_group_id: target?.id ?? null } }]
}

function violations(groups: Group[]): string[] {
  return groups
    .flatMap((group) =>
      ancestors(group, groups).flatMap((ancestor) =>
        flat(group).filter(([identity, threshold]) => {
          const bound = flat(ancestor).find(([other]) => other === identity)
          return bound !== undefined && threshold > bound[1]
        }),
      ),
    )
    .map(([identity]) => identity)
}

function flat({ models: all }: Group): [identity: string, threshold: number][] {
  return all.flatMap(({ slug, rate_limits, usage_limits }) =>
    [...rate_limits, ...usage_limits].map(({ type, unit, threshold }): [string, number] => [
      `${slug} ${type} ${unit}`,
      threshold,
    ]),
  )
}

function ancestors(group: Group, groups: Group[]): Group[] {
  const parent = groups.find(({ id }) => id === group.hierarchy.parent_group_id)
  return parent === undefined ? [] : [parent, ...ancestors(parent, groups)]
}

function depth(groups: Group[]): number {
  return Math.max(...groups.map((group) => ancestors(group, groups).length + 1))
}
