import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Copies } from '../../src/directory/copies.ts'

interface Row {
  id: string
}

/** A table of which every read is counted. */
function table(...ids: string[]) {
  const reads: string[] = []
  const read = async (id: string): Promise<Row | null> => {
    reads.push(id)
    return ids.includes(id) ? { id } : null
  }
  return { reads, copies: new Copies(read, { max: 100 }) }
}

test('an id that no row can have is absent, and neither read nor remembered', async () => {
  const longest = 'x'.repeat(255)
  const { reads, copies } = table(longest, `${longest}x`)
  assert.deepEqual(await copies.get(longest), { id: longest })
  assert.equal(copies.peek(`${longest}x`), null)
  assert.equal(await copies.get(`${longest}x`), null)
  assert.deepEqual(reads, [longest])
})

test('what does not exist is remembered, and of very many such ids the last of them', async () => {
  const { copies } = table()
  const invented = (index: number) => `acme/${String(index).padStart(250, 'x')}`
  for (let index = 0; index < 3_000; index++) await copies.get(invented(index))
  assert.equal(copies.peek(invented(2_999)), null)
  assert.equal(copies.peek(invented(2_000)), null)
  // 3,000 ids of 255 characters are more than are kept.
  assert.equal(copies.peek(invented(1_000)), undefined)
})
