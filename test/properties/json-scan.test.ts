import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { MemberNames, NewMember, pieces, scanJsonObject, splice } from '../../src/inference/json-scan.ts'
import { chunked, cuts } from '../support/chunks.ts'
import { escapedName, jsonText, objectText, spaced } from '../support/json-documents.ts'

const sought = ['model', 'stream', 'max_tokens', 'metadata'] as const
const names = new MemberNames(sought)

describe('scanning a JSON object', () => {
  test('agrees with JSON.parse on every well-formed document, whatever its spacing and escapes', () => {
    fc.assert(
      fc.property(document(), (text) => assertAgrees(Buffer.from(text))),
      { numRuns: 6_000 },
    )
  })

  test('agrees with JSON.parse on damaged documents, byte by byte', () => {
    fc.assert(
      fc.property(document(), fc.array(damage(), { minLength: 1, maxLength: 3 }), (text, damages) => {
        assertAgrees(damages.reduce<Buffer>((bytes, harm) => harm(bytes), Buffer.from(text)))
      }),
      { numRuns: 20_000 },
    )
  })

  test('agrees with JSON.parse on every byte at every place of a document', () => {
    const sample = Buffer.from('{"a":"\\u00eF\\n","b":[-10.5e+3,true,{}],"model":null} ')
    for (const place of sample.keys()) {
      for (let byte = 0; byte < 256; byte++) assertAgrees(Buffer.from(sample.with(place, byte)))
    }
  })

  test('agrees with JSON.parse on scalars that nearly are numbers, literals or strings', () => {
    const nearly = fc.oneof(
      fc.string({ unit: fc.constantFrom(...'0123456789+-.eE'), minLength: 1, maxLength: 8 }),
      fc.string({ unit: fc.constantFrom(...'truefalsn'), minLength: 3, maxLength: 6 }),
      fc.string({ unit: fc.constantFrom(...'"\\/bfnrtu0aAgG\u0000\u001f\u007f'), maxLength: 9 }).map((s) => `"${s}"`),
    )
    fc.assert(
      fc.property(nearly, fc.boolean(), (scalar, nested) => {
        assertAgrees(Buffer.from(nested ? `{"a":[${scalar}],"model":"m"}` : `{"model":${scalar}}`))
      }),
      { numRuns: 10_000 },
    )
  })

  test('refuses what JSON forbids and some parsers forgive', () => {
    const forbidden = [
      '{"a":1,}',
      '{,}',
      '{"a":[1,]}',
      '{"a":01}',
      '{"a":"\t"}',
      "{'a':1}",
      '{"a":NaN}',
      '{a:1}',
      '{} {}',
    ]
    for (const text of [...forbidden, '{"a":1}//', '\uFEFF{}', '', ' ', '{"a":"\\x41"}', '{"a":+1}', '{"a":.5}']) {
      assert.deepEqual(scanJsonObject(Buffer.from(text), names), { ok: false, reason: 'not-json' }, text)
    }
    const notUtf8 = Buffer.from('{"a":"\xff"}', 'latin1')
    assert.deepEqual(scanJsonObject(notUtf8, names), { ok: false, reason: 'not-json' })
  })

  test('tells a JSON value that is no object from what is no JSON', () => {
    for (const text of ['[]', ' "model" ', '17', 'null', '[{"model":1}]']) {
      assert.deepEqual(scanJsonObject(Buffer.from(text), names), { ok: false, reason: 'not-object' }, text)
    }
  })

  test('refuses a name that stands twice, is spelled with escapes the second time, or differs in letter case', () => {
    const ambiguous = [
      '{"model":"a","model":"a"}',
      '{"model":"a","mod\\u0065l":"b"}',
      '{"Model":"b"}',
      '{"model":"a","x":1,"MODEL":"b"}',
    ]
    for (const text of ambiguous) {
      const expected = { ok: false, reason: 'ambiguous-name', name: 'model' }
      assert.deepEqual(scanJsonObject(Buffer.from(text), names), expected, text)
    }
    // Go's decoder folds the long s and the Kelvin sign as well.
    const folded = Buffer.from('{"\u017Ftream":true,"max_to\u212Aens":1}')
    assert.deepEqual(scanJsonObject(folded, names), { ok: false, reason: 'ambiguous-name', name: 'stream' })
  })

  test('leaves alone names inside other values and those that merely resemble a name sought', () => {
    const text = '{"mode":1,"models":2,"xmodel":3,"metadata":{"model":"a","model":"b"},"":4,"mod\\u0065":5}'
    const scan = scanJsonObject(Buffer.from(text), names)
    assert.ok(scan.ok)
    assert.deepEqual(Object.keys(scan.members), ['metadata'])
  })

  test('refuses nesting beyond the bound, and no depth overflows the stack', () => {
    const nested = (depth: number) => Buffer.from(`{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`)
    assert.equal(scanJsonObject(nested(20), names, { depthMax: 20 }).ok, true)
    assert.deepEqual(scanJsonObject(nested(21), names, { depthMax: 20 }), { ok: false, reason: 'too-deep' })
    assert.deepEqual(scanJsonObject(nested(1_000_000), names), { ok: false, reason: 'too-deep' })
    assert.deepEqual(scanJsonObject(Buffer.alloc(1_000_000, '['), names), { ok: false, reason: 'too-deep' })
  })

  test('refuses more members than the bound, and takes as many', () => {
    const members = (count: number) => Array.from({ length: count }, (_, index) => `"\u00e9${index}":1`)
    const object = (count: number) => Buffer.from(`{${members(count).join(',')}}`)
    assert.equal(scanJsonObject(object(20), names, { membersMax: 20 }).ok, true)
    assert.deepEqual(scanJsonObject(object(21), names, { membersMax: 20 }), { ok: false, reason: 'too-many-members' })
    assert.deepEqual(scanJsonObject(object(1_001), names), { ok: false, reason: 'too-many-members' })
  })

  test('finds a name that is written in escapes from end to end, and none in a name of any length', () => {
    const escaped = [...'Max_Tokens'].map((letter) => `\\u00${letter.charCodeAt(0).toString(16)}`).join('')
    const scan = scanJsonObject(Buffer.from(`{"${escaped}":1}`), names)
    assert.deepEqual(scan, { ok: false, reason: 'ambiguous-name', name: 'max_tokens' })
    const long = Buffer.from(`{"${'\u00e9'.repeat(1_000_000)}":1}`)
    assert.equal(scanJsonObject(long, names).ok, true)
  })
})

describe('editing a scanned object', () => {
  test('changes the members meant and not a byte beside them', () => {
    fc.assert(
      fc.property(document(), fc.string(), (text, model) => {
        const bytes = Buffer.from(text)
        const scan = scanJsonObject(bytes, names)
        fc.pre(scan.ok)
        const edits = [new NewMember('added', '{"include_usage":true}').appendedTo(scan)]
        if (scan.members.model)
          edits.unshift({ ...scan.members.model, replacement: Buffer.from(JSON.stringify(model)) })

        const edited: unknown = JSON.parse(splice(bytes, edits).toString())

        const expected = { ...JSON.parse(text), added: { include_usage: true } }
        if (scan.members.model) expected.model = model
        assert.deepEqual(edited, expected)
      }),
      { numRuns: 2_000 },
    )
  })

  test('edits one part of the bytes as it edits the whole', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), cuts(), fc.nat(), (array, positions, cutSeed) => {
        const bytes = Buffer.from(array)
        const odd = chunked(bytes, positions).filter((_, index) => index % 2 === 1)
        const spans = odd.filter((part) => part.byteOffset < bytes.byteOffset + bytes.length)
        const edits = spans.map((part) => {
          const start = part.byteOffset - bytes.byteOffset
          return { start, end: start + part.length, replacement: Buffer.from('<edited>') }
        })
        const boundaries = [0, ...edits.flatMap(({ start, end }) => [start, end]), bytes.length]
        const cut = boundaries[cutSeed % boundaries.length] ?? 0
        const parts = [
          splice(bytes, edits, { start: 0, end: cut }),
          splice(bytes, edits, { start: cut, end: bytes.length }),
        ]
        assert.deepEqual(Buffer.concat(parts), splice(bytes, edits))
        assert.deepEqual(Buffer.concat(pieces(bytes, edits)), splice(bytes, edits))
      }),
      { numRuns: 1_000 },
    )
  })

  test('without edits hands out the very bytes it was given', () => {
    const bytes = Buffer.from('{"model":"a"}')
    assert.equal(splice(bytes, []), bytes)
  })
})

/** JSON.parse is the judge: what it accepts, and which values it finds under the names sought. */
function assertAgrees(bytes: Buffer): void {
  const scan = scanJsonObject(bytes, names)
  const parsed = parsedStrictly(bytes)
  if (parsed === null) {
    // Both refuse; an ambiguous name may stand before the byte that breaks the document.
    assert.equal(scan.ok, false)
    if (!scan.ok && scan.reason !== 'ambiguous-name') assert.equal(scan.reason, 'not-json')
    return
  }
  const { value, text } = parsed
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    assert.deepEqual(scan, { ok: false, reason: 'not-object' })
    return
  }
  const spelled = topLevelNames(text).filter((name) => sought.some((known) => known === name.toLowerCase()))
  if (new Set(spelled.map((name) => name.toLowerCase())).size < spelled.length || spelled.some(hasCapitals)) {
    assert.equal(!scan.ok && scan.reason, 'ambiguous-name')
    return
  }
  assert.ok(scan.ok)
  const found = Object.entries(scan.members).map(([name, { start, end }]) => {
    return [name, JSON.parse(bytes.toString('utf8', start, end))]
  })
  const expected = Object.entries(value).filter(([name]) => sought.some((known) => known === name))
  assert.deepEqual(Object.fromEntries(found), Object.fromEntries(expected))
  assert.equal(scan.closeAt, Buffer.byteLength(text.trimEnd()) - 1)
  assert.equal(scan.empty, Object.keys(value).length === 0)
}

function parsedStrictly(bytes: Buffer): { value: unknown; text: string } | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    return { value: JSON.parse(text), text }
  } catch {
    return null
  }
}

/** The names at the top of a well-formed object, repeated ones too: strings at depth one that a colon follows. */
function topLevelNames(text: string): string[] {
  const found: string[] = []
  let depth = 0
  for (const [token, isName] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[[\]{}]/g)) {
    if (token === '{' || token === '[') depth++
    else if (token === '}' || token === ']') depth--
    else if (isName !== undefined && depth === 1) found.push(JSON.parse(token.slice(0, -isName.length)))
  }
  return found
}

function hasCapitals(name: string): boolean {
  return name !== name.toLowerCase()
}

/** Objects with names sought among others; sometimes another value. */
function document(): fc.Arbitrary<string> {
  const name = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...sought).map((known) => `"${known}"`) },
    { weight: 1, arbitrary: fc.constantFrom(...sought).chain(escapedName) },
    { weight: 1, arbitrary: fc.constantFrom('"Model"', '"STREAM"', '"models"', '""', '"__proto__"') },
    { weight: 5, arbitrary: fc.string({ unit: 'binary', maxLength: 10 }).map((text) => JSON.stringify(text)) },
  )
  return fc.oneof(
    { weight: 9, arbitrary: spaced(objectText(name, jsonText())) },
    { weight: 1, arbitrary: spaced(jsonText()) },
  )
}

/** One byte changed, taken out or put in, or the end cut off; bytes that mean something to JSON are preferred. */
function damage(): fc.Arbitrary<(bytes: Buffer) => Buffer> {
  const byte = fc.oneof(fc.constantFrom(...Buffer.from('{}[]",:\\ \n0-.eEtfnu/')), fc.nat({ max: 255 }))
  const kind = fc.constantFrom('change', 'remove', 'insert', 'truncate')
  return fc.tuple(kind, byte, fc.nat()).map(([what, value, seed]) => (bytes) => {
    const at = bytes.length === 0 ? 0 : seed % bytes.length
    const before = bytes.subarray(0, at)
    const middle = what === 'change' || what === 'insert' ? [Buffer.of(value)] : []
    if (what === 'truncate') return before
    return Buffer.concat([before, ...middle, bytes.subarray(what === 'insert' ? at : at + 1)])
  })
}
