import fc from 'fast-check'

/** Well-formed JSON values as text, in every spelling that the grammar allows. */
export function jsonText(): fc.Arbitrary<string> {
  return fc.letrec<{ value: string; array: string; object: string }>((tie) => ({
    value: fc.oneof({ maxDepth: 4, withCrossShrink: true }, scalar(), tie('array'), tie('object')),
    array: fc.tuple(fc.array(spaced(tie('value')), { maxLength: 4 }), space()).map(([items, inside]) => {
      return `[${items.length === 0 ? inside : items.join(',')}]`
    }),
    object: objectText(stringText(), tie('value')),
  })).value
}

/** A JSON object as text, with names and values as given. */
export function objectText(name: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const member = fc.tuple(spaced(name), spaced(value)).map((parts) => parts.join(':'))
  return fc.tuple(fc.array(member, { maxLength: 6 }), space()).map(([members, inside]) => {
    return `{${members.length === 0 ? inside : members.join(',')}}`
  })
}

/** `name` between quotes, some of its characters escaped. */
export function escapedName(name: string): fc.Arbitrary<string> {
  return fc.array(fc.boolean(), { minLength: name.length, maxLength: name.length }).map((escaped) => {
    const spelled = [...name].map((letter, index) => (escaped[index] ? unicodeEscape(letter.charCodeAt(0)) : letter))
    return `"${spelled.join('')}"`
  })
}

export function spaced(text: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.tuple(space(), text, space()).map((parts) => parts.join(''))
}

function space(): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 3, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 }) },
  )
}

function scalar(): fc.Arbitrary<string> {
  return fc.oneof(fc.constantFrom('true', 'false', 'null'), numberText(), stringText())
}

function numberText(): fc.Arbitrary<string> {
  const digits = fc.stringMatching(/^\d{1,5}$/)
  return fc
    .tuple(
      fc.constantFrom('', '-'),
      fc.oneof(fc.constant('0'), fc.stringMatching(/^[1-9]\d{0,5}$/)),
      fc.oneof(
        fc.constant(''),
        digits.map((fraction) => `.${fraction}`),
      ),
      fc.oneof(
        fc.constant(''),
        fc.tuple(fc.constantFrom('e', 'E', 'e+', 'E-'), digits).map((parts) => parts.join('')),
      ),
    )
    .map((parts) => parts.join(''))
}

/** With escapes of every kind, lone surrogates among them, and characters of one to four bytes. */
function stringText(): fc.Arbitrary<string> {
  const plain = fc.string({ unit: 'binary', maxLength: 12 }).map((text) => JSON.stringify(text).slice(1, -1))
  const long = fc.string({ unit: fc.constantFrom('a', ' ', 'é', '漢'), minLength: 5, maxLength: 40 })
  const escaped = fc.oneof(
    fc.constantFrom('\\"', '\\\\', '\\/', '\\b', '\\f', '\\n', '\\r', '\\t'),
    fc.nat({ max: 0xffff }).map(unicodeEscape),
  )
  return fc.array(fc.oneof(plain, long, escaped), { maxLength: 4 }).map((parts) => `"${parts.join('')}"`)
}

function unicodeEscape(code: number): string {
  return `\\u${code.toString(16).padStart(4, '0')}`
}
