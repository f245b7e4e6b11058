import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { descendantsInTurns, groupsPerTurn } from '../../src/management/group-tree.ts'
import { turnsDuring } from '../support/event-loop-turns.ts'
import { type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

interface Group {
  id: string
  hierarchy: { parent_group_id: string | null }
}

const path = '/v1/gateway/groups'
const modelsUpTo = (threshold: number) => [
  { slug: 'org-1/model', usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold }] },
]

/** More children than are read together, and below the last of them as many again. */
describe('a tree of more groups than are read together', () => {
  const clock = new ManualClock()
  let management: Management
  let lab: Lab
  let root: Group
  let lowest: Group

  before(async () => {
    management = await startManagement({ clock })
    lab = await management.lab()
    root = await create(null, 100)
    const children = await createBelow(root)
    const grandchildren = await createBelow(last(children))
    lowest = await create(last(grandchildren), 50)
  })
  after(() => management[Symbol.asyncDispose]())

  const groupCount = 2 * (groupsPerTurn + 5) + 2

  async function create(parent: Group | null, threshold: number): Promise<Group> {
    clock.advance(1_000)
    return lab.ok<Group>(`POST ${path}`, {
      metadata: { external_entity_id: crypto.randomUUID() },
      models: modelsUpTo(threshold),
      hierarchy: { parent_group_id: parent?.id ?? null, limit_enforcement: 'CASCADING' },
    })
  }

  async function createBelow(parent: Group): Promise<Group[]> {
    const children: Group[] = []
    for (let count = 0; count < groupsPerTurn + 5; count += 1) children.push(await create(parent, 50))
    return children
  }

  const boundRoot = (threshold: number) =>
    lab.call<Group>(`PATCH ${path}/${root.id}`, { models: modelsUpTo(threshold) })

  test('is walked in turns of the event loop, each group once and behind its parent', async () => {
    const found: string[] = []
    const turns = await turnsDuring(async () => {
      for await (const groups of descendantsInTurns(root.id, management.database.queries)) {
        assert.ok(groups.length <= groupsPerTurn)
        for (const group of groups) {
          assert.ok(group.parent_group_id === root.id || found.includes(String(group.parent_group_id)))
          found.push(group.id)
        }
      }
    })
    assert.equal(new Set(found).size, groupCount - 1)
    assert.equal(found.length, groupCount - 1)
    assert.ok(turns > groupCount / groupsPerTurn, `${turns} turns`)
  })

  test('is listed as a whole, and page by page', async () => {
    const all = await lab.ok<Page<Group>>(`GET ${path}?limit=1000`)
    assert.equal(all.items.length, groupCount)
    assert.deepEqual(all.pagination, { has_more: false, cursor: null })

    const pages: Group[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: Page<Group> = await lab.ok(`GET ${path}?limit=${groupsPerTurn}${cursor && `&cursor=${cursor}`}`)
      pages.push(...page.items)
      cursor = page.pagination.cursor
    }
    assert.deepEqual(pages, all.items)
  })

  test('refuses a limit at its root that is below that of its lowest group', async () => {
    assert.equal((await boundRoot(49)).status, 400)
    assert.equal((await boundRoot(50)).status, 200)
    assert.equal((await boundRoot(200)).status, 200)
    assert.equal((await boundRoot(49)).status, 400)
  })

  test('is deleted as a whole, and its keys are revoked', async () => {
    const { prefix } = await lab.ok<{ prefix: string }>(`POST ${path}/${lowest.id}/api_keys`, { name: 'lowest' })
    const other = await create(null, 100)
    await lab.ok(`DELETE ${path}/${root.id}`)
    const left = await lab.ok<Page<Group>>(`GET ${path}`)
    assert.deepEqual(
      left.items.map(({ id }) => id),
      [other.id],
    )
    const key = await management.database.queries
      .selectFrom('federated_keys')
      .select('revoked_at')
      .where('prefix', '=', prefix)
      .executeTakeFirstOrThrow()
    assert.equal(key.revoked_at, clock.now())
  })
})

function last(groups: readonly Group[]): Group {
  const group = groups.at(-1)
  assert.ok(group)
  return group
}
