import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { chatDialect } from '../../src/inference/dialects.ts'
import { JsonBodyTap } from '../../src/inference/json-body-tap.ts'
import { chunked, cuts } from '../support/chunks.ts'
import { jsonText, objectText, spaced } from '../support/json-documents.ts'

describe('an answer in one piece on its way to the client', () => {
  test('is the same but for the model, however it is cut into chunks', () => {
    fc.assert(
      fc.property(answer(), cuts(), ({ render }, fractions) => {
        const passed = passThrough(Buffer.from(render('"up/stream-7b"')), fractions)
        assert.equal(passed.send + passed.final, render('"lab/model"'))
        assert.equal(passed.tap.complete, true)
      }),
      { numRuns: 4_000 },
    )
  })

  test('holds back the closing brace and what follows, and nothing before it unless all came in one chunk', () => {
    fc.assert(
      fc.property(answer(), cuts(), ({ render }, fractions) => {
        const bytes = Buffer.from(render('"up"'))
        const { send, final } = passThrough(bytes, fractions)
        const [first] = chunked(bytes, fractions).filter(({ length }) => length > 0)
        const isWhole = first?.toString().trimEnd() === render('"up"').trimEnd()
        const passed = render('"lab/model"')
        assert.equal(send, isWhole ? '' : passed.trimEnd().slice(0, -1))
        assert.equal(send + final, passed)
      }),
    )
  })

  test('passes each chunk on at once', () => {
    const tap = new JsonBodyTap({ dialect: chatDialect, model: 'lab/model' })
    const text = '{"id":"a","model":"up","usage":{"prompt_tokens":3},"object":"x"'
    for (const byte of chunked(Buffer.from(text.slice(0, 18)), [])) tap.push(byte)
    assert.equal(
      tap.push(Buffer.from(text.slice(18))).send?.toString(),
      '"lab/model","usage":{"prompt_tokens":3},"object":"x"',
    )
  })

  test('has its usage, its error and its text read from the top level, whatever the chunks', () => {
    const choices = [{ message: { content: 'Hi "you"', tool_calls: [{ function: { name: 'f', arguments: '{}' } }] } }]
    const nested = { usage: { prompt_tokens: 1 }, error: 'nested', choices: [{ text: 'nested' }] }
    const body = { nested, choices, usage: { prompt_tokens: 7 }, error: { message: 'odd' } }
    fc.assert(
      fc.property(cuts(), fc.constantFrom(0, 2), (fractions, indent) => {
        const { tap } = passThrough(Buffer.from(JSON.stringify(body, null, indent)), fractions)
        assert.deepEqual(tap.usage(), { prompt_tokens: 7 })
        assert.equal(tap.error(), '{"message":"odd"}')
        assert.equal(tap.producedText(), 'Hi "you"f{}')
      }),
    )
  })

  test('is not complete while a byte of it is missing', () => {
    fc.assert(
      fc.property(answer(), cuts(), fc.nat(), ({ render }, fractions, seed) => {
        const whole = Buffer.from(render('"up"').trimEnd())
        const { tap } = passThrough(whole.subarray(0, seed % whole.length), fractions)
        assert.equal(tap.complete, false)
      }),
      { numRuns: 2_000 },
    )
  })

  test('flows through unchanged and never complete when it is no object or breaks its structure', () => {
    const broken = [
      '[1]',
      '"model"',
      'Internal error',
      '{"a":[1}',
      '{"a":[1}}',
      '{"a":1 2}',
      '{"a"}',
      '{"a":}',
      '{"a":1,}',
      '{"a":"\n"}',
      '{}{}',
    ]
    for (const text of [...broken, `{"a":${'['.repeat(600)}${']'.repeat(600)}}`]) {
      const { send, final, tap } = passThrough(Buffer.from(text), [])
      assert.equal(send + final, text)
      assert.equal(tap.complete, false, text)
    }
  })

  test('keeps of a large answer only what billing needs, up to a bound', () => {
    const tap = new JsonBodyTap({ dialect: chatDialect, model: 'lab/model', keptBytesMax: 100 })
    tap.push(Buffer.from('{"usage":{"prompt_tokens":3},"choices":[{"text":"'))
    for (let chunk = 0; chunk < 50; chunk++) tap.push(Buffer.alloc(10, 'a'))
    tap.push(Buffer.from('"}]}'))
    assert.equal(tap.complete, true)
    assert.deepEqual(tap.usage(), { prompt_tokens: 3 })
    assert.equal(tap.producedText(), 'a'.repeat(90), 'of a member that is longer, the text at its beginning')
  })

  test('of an answer that breaks off, the text that came is kept', () => {
    const tap = new JsonBodyTap({ dialect: chatDialect, model: 'lab/model' })
    tap.push(
      Buffer.from('{"id":"x","choices":[{"logprobs":{"content":[{"token":"no"}]},"message":{"content":"one \\"t'),
    )
    tap.push(Buffer.from('wo\\" thr'))
    assert.equal(tap.complete, false)
    assert.equal(tap.producedText(), 'one \\"two\\" thr')
  })
})

/** An object with one `model` among other members, to be written with either name. */
function answer(): fc.Arbitrary<{ render: (model: string) => string }> {
  const placeholder = '"model":0'
  const others = objectText(
    fc.string({ unit: 'grapheme', maxLength: 8 }).map((name) => JSON.stringify(`${name}-`)),
    jsonText(),
  ).map((text) => text.slice(1, -1).trim())
  return fc
    .tuple(
      others,
      others,
      fc.constantFrom('"model"', '"mod\\u0065l"'),
      spaced(fc.constant(':')),
      fc.constantFrom('', '\n'),
    )
    .map(([before, after, name, colon, last]) => ({
      render: (model) =>
        `{${[before, placeholder, after].filter((part) => part !== '').join(',')}}${last}`.replace(
          placeholder,
          () => `${name}${colon}${model}`,
        ),
    }))
}

function passThrough(bytes: Buffer, fractions: readonly number[]): { send: string; final: string; tap: JsonBodyTap } {
  const tap = new JsonBodyTap({ dialect: chatDialect, model: 'lab/model' })
  const passed = [...chunked(bytes, fractions).map((chunk) => tap.push(chunk)), tap.end()]
  const all = (part: 'send' | 'final') => Buffer.concat(passed.flatMap((tapped) => tapped[part] ?? [])).toString()
  return { send: all('send'), final: all('final'), tap }
}
