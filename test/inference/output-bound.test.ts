import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { promptCount } from '../../src/inference/output-bound.ts'
import { spaced } from '../support/json-documents.ts'

test('prompts are counted as JSON.parse has them, whatever their spacing and escapes', () => {
  const text = fc.string({ unit: 'binary' })
  const tokens = fc.array(fc.integer())
  const prompt = fc.oneof(text, tokens, fc.array(text), fc.array(tokens), fc.constant(null))
  const indent = fc.constantFrom('', ' ', '\t')
  const written = fc.tuple(prompt, indent).map(([value, space]) => JSON.stringify(value, null, space))
  fc.assert(
    fc.property(spaced(written), (json) => {
      const value: unknown = JSON.parse(json)
      const isList = Array.isArray(value) && value.length > 0 && typeof value[0] !== 'number'
      assert.equal(count(json), isList ? value.length : 1)
    }),
    { numRuns: 2_000 },
  )
})

test('of a list beyond all use no fewer prompts are counted than there are', () => {
  for (const prompt of ['""', '[]', '[1]', '"once upon a time"']) {
    for (const prompts of [99_999, 100_000, 100_001, 300_000]) {
      assert.ok(count(`[${Array(prompts).fill(prompt).join(',')}]`) >= prompts)
    }
  }
})

function count(json: string): number {
  const body = Buffer.from(`{"prompt":${json}}`)
  const start = body.indexOf(':') + 1
  const leading = json.length - json.trimStart().length
  return promptCount(body, { start: start + leading, end: start + Buffer.byteLength(json.trimEnd()) })
}
