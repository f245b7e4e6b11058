import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readUsage } from '../../src/inference/usage.ts'
import { tokensMax } from '../../src/token-bounds.ts'

test('an upstream is believed up to the most that a count can be, and no further', () => {
  assert.deepEqual(readUsage({ prompt_tokens: tokensMax, completion_tokens: tokensMax }), {
    inputTokens: tokensMax,
    outputTokens: tokensMax,
    cachedInputTokens: 0,
  })
  for (const beyond of [tokensMax + 1, 2 ** 31, Number.MAX_SAFE_INTEGER, 2 ** 53, 1e300]) {
    assert.equal(readUsage({ prompt_tokens: beyond, completion_tokens: 1 }), null)
    assert.equal(readUsage({ prompt_tokens: 1, completion_tokens: beyond }), null)
    assert.equal(readUsage({ input_tokens: beyond }), null)
  }
})
