import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Lab, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

interface Group {
  id: string
}

const slug = 'org-1/model'
const tokens = (threshold: number) => ({ type: 'TOKEN', unit: 'DAY', threshold })
const requests = (threshold: number) => ({ type: 'REQUEST', unit: 'DAY', threshold })

test('usage lists every effective usage limit, null until the first request of the day', async () => {
  const clock = new ManualClock('2026-01-15T12:00:00.000Z')
  await using management = await startManagement({ clock })
  const lab = await management.lab()
  const group = await createGroup(lab, {
    external_entity_id: 'cust_42',
    models: [
      { slug, usage_limits: [tokens(1000), requests(10)] },
      { slug: 'org-1/limited-by-rate', rate_limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: 1 }] },
    ],
  })
  const read = () => lab.ok(`GET /v1/gateway/groups/${group.id}/usage`)
  const usage = (counts: [number, number] | null, reset_at: string | null) => ({
    customer_id: 'cust_42',
    external_entity_id: 'cust_42',
    usage: {
      [slug]: [
        { ...tokens(1000), current_usage: counts?.[0] ?? null, reset_at, source_group: group.id },
        { ...requests(10), current_usage: counts?.[1] ?? null, reset_at, source_group: group.id },
      ],
    },
  })
  assert.deepEqual(await read(), usage(null, null))
  await management.counters.seedDay('2026-01-15', [
    { hierarchy: group.id, owner: group.id, slug, node: '', requests: 3, tokens: 77 },
  ])
  assert.deepEqual(await read(), usage([77, 3], '2026-01-16T00:00:00.000Z'))
  clock.advance(12 * 3_600_000)
  assert.deepEqual(await read(), usage(null, null))
})

test('INDEPENDENT: an inherited limit shows what the group itself has used', async () => {
  await using management = await startManagement({ clock: new ManualClock('2026-01-15T12:00:00.000Z') })
  const lab = await management.lab()
  const parent = await createGroup(lab, {
    external_entity_id: 'parent',
    models: [{ slug, usage_limits: [tokens(1000)] }],
  })
  const child = await createGroup(lab, { external_entity_id: 'child', models: [{ slug }], parent })
  await management.counters.seedDay('2026-01-15', [
    { hierarchy: parent.id, owner: parent.id, slug, node: '', requests: 9, tokens: 900 },
    { hierarchy: parent.id, owner: child.id, slug, node: '', requests: 1, tokens: 5 },
  ])
  assert.deepEqual(await currentUsage(lab, child), [`TOKEN 5/1000 of ${parent.id}`])
})

test('CASCADING: each limit shows what the whole tree of its group has used', async () => {
  await using management = await startManagement({ clock: new ManualClock('2026-01-15T12:00:00.000Z') })
  const lab = await management.lab()
  const root = await createGroup(lab, {
    external_entity_id: 'root',
    models: [{ slug, usage_limits: [tokens(1000)] }],
    enforcement: 'CASCADING',
  })
  const child = await createGroup(lab, {
    external_entity_id: 'child',
    models: [{ slug, usage_limits: [tokens(50)] }],
    parent: root,
  })
  await management.counters.seedDay('2026-01-15', [
    { hierarchy: root.id, owner: root.id, slug, node: '', requests: 9, tokens: 900 },
    { hierarchy: root.id, owner: child.id, slug, node: '', requests: 1, tokens: 5 },
  ])
  assert.deepEqual(await currentUsage(lab, child), [`TOKEN 5/50 of ${child.id}`, `TOKEN 900/1000 of ${root.id}`])
  assert.deepEqual(await currentUsage(lab, root), [`TOKEN 900/1000 of ${root.id}`])
})

function createGroup(
  lab: Lab,
  group: { external_entity_id: string; models: object[]; parent?: Group; enforcement?: string },
): Promise<Group> {
  return lab.ok('POST /v1/gateway/groups', {
    metadata: { external_entity_id: group.external_entity_id },
    models: group.models,
    hierarchy: { parent_group_id: group.parent?.id ?? null, limit_enforcement: group.enforcement ?? null },
  })
}

async function currentUsage(lab: Lab, { id }: Group): Promise<string[] | undefined> {
  interface Usage {
    usage: Record<string, { type: string; threshold: number; current_usage: number; source_group: string }[]>
  }
  const { usage } = await lab.ok<Usage>(`GET /v1/gateway/groups/${id}/usage`)
  return usage[slug]?.map(
    ({ type, threshold, current_usage, source_group }) => `${type} ${current_usage}/${threshold} of ${source_group}`,
  )
}
