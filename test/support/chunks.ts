import fc from 'fast-check'

/** Where to cut bytes of any length: fractions of it. */
export function cuts(): fc.Arbitrary<number[]> {
  return fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 })
}

/** The bytes cut at the given fractions of their length; at each single byte when there is none. */
export function chunked(bytes: Buffer, fractions: readonly number[]): Buffer[] {
  const positions = fractions.map((fraction) => Math.floor(fraction * bytes.length)).sort((one, other) => one - other)
  const ends = positions.length === 0 ? [...bytes.keys()] : positions
  return [...ends, bytes.length].map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end))
}
