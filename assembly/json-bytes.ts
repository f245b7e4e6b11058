/**
 * Where things end in JSON (RFC 8259), found 16 bytes at a time. `npm run build:wasm` makes `src/inference/json-bytes.wasm`
 * of it; `src/inference/json-bytes.ts` puts the text into its memory, and a NUL behind it. JSON has that nowhere: it stops
 * everything here.
 */

const quote: u8 = 0x22
const backslash: u8 = 0x5c
const letterU: u8 = 0x75

/** Inside a string: the next quote, backslash or control character. */
export function plainEnd(start: i32): i32 {
  let at = start
  let found = specials(at)
  while (found === 0) {
    at += blockBytes
    found = specials(at)
  }
  return at + ctz(found)
}

/** From behind a string's opening quote to behind its closing one; `~place` where nothing allowed stands at `place`. */
export function stringEnd(start: i32): i32 {
  let at = plainEnd(start)
  while (load<u8>(at) === backslash) {
    // One sum for both would have to wait for the comparisons: twice as slow.
    if (isShortEscape(load<u8>(at, 1))) at = plainEnd(at + 2)
    else if (isUnicodeEscape(at)) at = plainEnd(at + 6)
    else return ~at
  }
  return load<u8>(at) === quote ? at + 1 : ~at
}

/** Outside of strings: the next quote, brace or bracket. */
export function unstructuredEnd(start: i32): i32 {
  let at = start
  let found = structure(at)
  while (found === 0) {
    at += blockBytes
    found = structure(at)
  }
  return at + ctz(found)
}

const blockBytes = 16

/** A bit for each byte of a block that ends a plain run. */
function specials(at: i32): i32 {
  const block = v128.load(at)
  const controls = i8x16.lt_u(block, i8x16.splat(0x20))
  return i8x16.bitmask(v128.or(controls, v128.or(equals(block, quote), equals(block, backslash))))
}

/** A bit for each quote, brace, bracket and NUL of a block. With bit 0x20 set, a bracket is a brace. */
function structure(at: i32): i32 {
  const block = v128.load(at)
  const folded = v128.or(block, i8x16.splat(0x20))
  const enclosing = v128.or(equals(folded, 0x7b), equals(folded, 0x7d))
  return i8x16.bitmask(v128.or(enclosing, v128.or(equals(block, quote), equals(block, 0))))
}

function equals(block: v128, byte: u8): v128 {
  return i8x16.eq(block, i8x16.splat(byte as i8))
}

/** What may follow a backslash, `u` aside: n " \ t r / b f. */
function isShortEscape(letter: u8): bool {
  return (
    letter === 0x6e ||
    letter === quote ||
    letter === backslash ||
    letter === 0x74 ||
    letter === 0x72 ||
    letter === 0x2f ||
    letter === 0x62 ||
    letter === 0x66
  )
}

function isUnicodeEscape(at: i32): bool {
  return (
    load<u8>(at, 1) === letterU &&
    isHexDigit(load<u8>(at, 2)) &&
    isHexDigit(load<u8>(at, 3)) &&
    isHexDigit(load<u8>(at, 4)) &&
    isHexDigit(load<u8>(at, 5))
  )
}

function isHexDigit(byte: u8): bool {
  const lowerCase = byte | 0x20
  return (byte >= 0x30 && byte <= 0x39) || (lowerCase >= 0x61 && lowerCase <= 0x66)
}
