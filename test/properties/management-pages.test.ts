import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Page, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

interface Group {
  id: string
}

type Step = { kind: 'read'; limit: number } | { kind: 'add' } | { kind: 'remove'; which: number }

const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('read' as const), limit: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ kind: fc.constant('add' as const) }),
    fc.record({ kind: fc.constant('remove' as const), which: fc.nat() }),
  ),
  { maxLength: 12 },
)

test('a reader who follows the cursor sees everything that stays exactly once, in order, while rows come and go', async () => {
  const clock = new ManualClock()
  await using management = await startManagement({ clock })
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 0, max: 5 }), async (script: Step[], initially) => {
      // Each run has the rate of its own key, however fast the runs follow one another.
      clock.advance(1_000)
      const lab = await management.lab()
      const alive: string[] = []
      const removed = new Set<string>()
      let entities = 0
      const add = async () => {
        entities += 1
        const { id } = await lab.ok<Group>('POST /v1/gateway/groups', {
          metadata: { external_entity_id: String(entities) },
          models: [{ slug: 'a/b' }],
          hierarchy: {},
        })
        alive.push(id)
      }
      for (let count = 0; count < initially; count += 1) await add()
      const seen: string[] = []
      let cursor: string | null | undefined
      const read = async (limit: number) => {
        const page = await lab.ok<Page<Group>>(
          `GET /v1/gateway/groups?limit=${limit}${cursor === undefined ? '' : `&cursor=${cursor}`}`,
        )
        assert.ok(page.items.length <= limit)
        seen.push(...page.items.map(({ id }) => id))
        cursor = page.pagination.cursor
      }
      for (const step of script) {
        if (cursor === null) break
        if (step.kind === 'read') await read(step.limit)
        if (step.kind === 'add') await add()
        const victim = step.kind === 'remove' ? alive[step.which % alive.length] : undefined
        if (victim === undefined) continue
        await lab.ok(`DELETE /v1/gateway/groups/${victim}`)
        alive.splice(alive.indexOf(victim), 1)
        removed.add(victim)
      }
      while (cursor !== null) await read(3)

      assert.deepEqual(seen, [...seen].sort(), 'oldest first')
      assert.equal(new Set(seen).size, seen.length, 'nothing twice')
      const stayed = seen.filter((id) => !removed.has(id))
      assert.deepEqual(stayed, alive, 'nothing that stays is skipped')
    }),
    { numRuns: 25 },
  )
})
