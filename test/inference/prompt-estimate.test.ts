import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { estimatePromptTokens } from '../../src/inference/prompt-estimate.ts'

/** Half a megabyte that no tokenizer ever sees as text. */
const payload = Buffer.alloc(400_000, 'image').toString('base64')

test('a prompt is estimated at a token for every four bytes of its members', () => {
  assert.equal(estimate('x'.repeat(398)), 100)
  const body = Buffer.from('{"system":"abcdef","messages":["abcdefgh"]}')
  assert.equal(
    estimatePromptTokens(body, [
      { start: 10, end: 18 },
      { start: 30, end: 42 },
    ]),
    5,
  )
})

test('a prompt of token ids has as many tokens, however they are written', () => {
  assert.equal(estimate(Array(100).fill(1)), 100)
  assert.equal(estimate(Array(100).fill(199_999)), 100)
  assert.equal(estimate([Array(30).fill(7), Array(70).fill(70_000)]), 100)
  const spaced = Buffer.from(JSON.stringify([1, 2, 3], null, 8))
  assert.equal(estimatePromptTokens(spaced, [{ start: 0, end: spaced.length }]), 3)
})

test('an empty or missing prompt is estimated at one token', () => {
  assert.equal(estimatePromptTokens(Buffer.from('{}'), []), 1)
  for (const empty of ['', [], null]) assert.equal(estimate(empty), 1)
})

test('a payload in base64 counts as a flat figure, however it is wrapped', () => {
  const wrapped = [
    [{ type: 'image_url', image_url: { url: `data:image/png;base64,${payload}` } }],
    [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: payload } }],
    [{ type: 'image', source: { data: payload, type: 'base64' } }],
    [{ type: 'input_audio', input_audio: { format: 'wav', data: payload } }],
    [{ type: 'file', file: { file_data: `data:application/pdf;base64,${payload}` } }],
  ]
  for (const content of wrapped) {
    const tokens = estimate(content)
    assert.ok(tokens >= 1_000 && tokens <= 1_050, `${tokens}`)
    assert.ok(Math.abs(estimate([content, content, content]) - 3 * tokens) <= 3)
  }
})

test('a payload written with spaces after the colons or with escaped slashes counts the same', () => {
  const image = { source: { data: 'abc/'.repeat(100_000) } }
  const spaced = Buffer.from(JSON.stringify(image, null, 2))
  const escaped = Buffer.from(JSON.stringify(image).replaceAll('/', '\\/'))
  for (const bytes of [spaced, escaped])
    assert.ok(estimatePromptTokens(bytes, [{ start: 0, end: bytes.length }]) < 1_050)
})

test('text counts in full though it holds, quotes or resembles base64', () => {
  const texts = [payload, `Decode this: ${payload}`, `data:image/png;base64,${payload}`.slice(5), 'a'.repeat(100_000)]
  for (const text of texts) {
    assert.ok(estimate([{ type: 'text', text }]) >= text.length / 4)
  }
  assert.ok(estimate([{ text: `{"data":"${payload}"}` }]) >= payload.length / 4)
})

test('an estimate is never below one, above a token a byte and the flat figures, or without an end', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string(), fc.constant(payload), fc.constant('"data":"')), { maxLength: 8 }),
      (parts) => {
        const bytes = Buffer.from(parts.join(''))
        const tokens = estimatePromptTokens(bytes, [{ start: 0, end: bytes.length }])
        assert.ok(tokens >= 1 && tokens <= 1 + bytes.length + 1_000 * parts.length)
      },
    ),
    { numRuns: 300 },
  )
})

function estimate(prompt: unknown): number {
  const bytes = Buffer.from(JSON.stringify(prompt))
  return estimatePromptTokens(bytes, [{ start: 0, end: bytes.length }])
}
