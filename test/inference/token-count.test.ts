import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { countTokens as countWhole, encode } from 'gpt-tokenizer/encoding/o200k_base'
import { systemClock } from '../../src/clock.ts'
import { countTokens } from '../../src/inference/token-count.ts'
import { pieces } from '../../src/inference/token-pieces.ts'

const prose = 'The quick brown fox, 42 years old, jumps over the lazy dog.\n\nDoes it? Of course it does!  '

test('tokens are counted as o200k_base has them', async () => {
  assert.equal(await countTokens('hello world'), 2)
  assert.equal(await countTokens(prose), encode(prose).length)
  assert.equal(await countTokens(''), 0)
})

test('what spells a special token is counted as the text it is', async () => {
  assert.ok((await countTokens('<|endoftext|>')) > 1)
  assert.equal(await countTokens('<|im_start|>'), countWhole('<|im_start|>', { disallowedSpecial: new Set() }))
})

test('a long text has the tokens of the whole within one in a thousand', async () => {
  const text = prose.repeat(1_000)
  const whole = countWhole(text)
  assert.ok(Math.abs((await countTokens(text)) - whole) <= whole / 1_000)
})

test('runs without spaces, which take time in their square, are counted in pieces', async () => {
  const startedMs = systemClock.monotonic()
  for (const run of ['a', '漢字', ' ', '\n', '😀', '=-']) assert.ok((await countTokens(run.repeat(50_000))) > 0)
  // In one piece the second of them alone takes half a minute.
  assert.ok(systemClock.monotonic() - startedMs < 10_000)
})

test('the event loop turns while a long text is counted', async () => {
  await countTokens('the thread is there')
  let turns = 0
  let counted = false
  const counting = countTokens(prose.repeat(20_000)).then(() => {
    counted = true
  })
  while (!counted) {
    turns++
    await new Promise((resolve) => setImmediate(resolve))
  }
  await counting
  assert.ok(turns > 10)
})

test('counts asked for at once come back to who asked', async () => {
  const texts = Array.from({ length: 50 }, (_, index) => 'word '.repeat(index))
  assert.deepEqual(
    await Promise.all(texts.map((text) => countTokens(text))),
    texts.map((text) => countWhole(text)),
  )
})

test('the pieces of a text are the text, none of them with a long run', () => {
  const run = fc.string({ unit: 'binary', maxLength: 400 })
  const text = fc.array(fc.oneof(run, fc.constantFrom(' ', '\n\n', ' '.repeat(300), 'x'.repeat(300))), {
    maxLength: 20,
  })
  fc.assert(
    fc.property(text, (parts) => {
      const whole = parts.join(' ')
      assert.equal(pieces(whole).join(''), whole)
      for (const piece of pieces(whole)) assert.doesNotMatch(piece, /\S{129}|\s{129}/u)
    }),
  )
})
