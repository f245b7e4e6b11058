import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { pageWriter } from '../../src/management/page-text.ts'
import { turnsDuring } from '../support/event-loop-turns.ts'

const Item = z.object({ id: z.string(), note: z.string().nullable(), tags: z.array(z.string()) })
const Items = z.object({
  items: z.array(Item),
  pagination: z.object({ has_more: z.boolean(), cursor: z.string().nullable() }),
})

const item = fc.record({
  id: fc.string({ unit: 'grapheme' }),
  note: fc.option(fc.string()),
  tags: fc.array(fc.string({ maxLength: 20_000, size: 'max' }), { maxLength: 3 }),
  undeclared: fc.boolean(),
})
const anyPage = fc.record({
  items: fc.array(item, { maxLength: 20 }),
  pagination: fc.record({ has_more: fc.boolean(), cursor: fc.option(fc.string()) }),
  undeclared: fc.string(),
})

test('a page is written as it would be all at once, and holds nothing that was not declared', async () => {
  await fc.assert(
    fc.asyncProperty(anyPage, async (page) => {
      assert.equal(await pageWriter(Items)?.(page), JSON.stringify(z.encode(Items, page)))
    }),
    { numRuns: 200 },
  )
})

test('a page of a megabyte is written in more than ten turns of the event loop', async () => {
  const items = Array.from({ length: 1_000 }, (_, index) => ({ id: `${index}`, note: 'x'.repeat(1_024), tags: [] }))
  const writePage = pageWriter(Items)
  const turns = await turnsDuring(async () => writePage?.({ items, pagination: { has_more: false, cursor: null } }))
  assert.ok(turns > 10, `${turns} turns`)
})

test('a page with an item that is not as declared is not written', async () => {
  const page = {
    items: [{ id: 'one', note: null, tags: [] }, { id: 2 }],
    pagination: { has_more: false, cursor: null },
  }
  await assert.rejects(async () => pageWriter(Items)?.(page), z.ZodError)
})

test('an answer that is no page is left to others', () => {
  assert.equal(pageWriter(Item), null)
  assert.equal(pageWriter(z.string()), null)
})
