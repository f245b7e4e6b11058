import { ShownText } from './json-bytes.ts'

/** What skipping answers in place of an index: the text breaks the grammar of JSON here. */
export const malformed = -1
/** What skipping answers in place of an index: arrays and objects stand deeper in one another than allowed. */
export const tooDeep = -2

/** A part of some bytes: `end` is the index after its last byte. */
export interface Span {
  start: number
  end: number
}

/**
 * JSON (RFC 8259) read as bytes, to find where things begin and end and not what they are. Nothing is decoded and
 * nothing recurses. Each `skip…` takes the index where a thing begins and answers the index after it, or
 * `malformed` or `tooDeep`. Whether the bytes are UTF-8 is the caller's to check.
 *
 * The end of the bytes reads as `endOfText`, NUL: JSON has it nowhere.
 */
export class JsonText {
  readonly bytes: Buffer
  readonly #shown: ShownText

  /** `bytes` must stay as they are. */
  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.#shown = new ShownText(bytes)
  }

  skipWhitespace(start: number): number {
    const bytes = this.bytes
    let at = start
    while (isWhitespace(bytes[at] ?? endOfText)) at++
    return at
  }

  /** Skips one value of any kind; `depthMax` bounds how many arrays and objects may stand in one another. */
  skipValue(start: number, depthMax: number): number {
    const bytes = this.bytes
    const outerClosers: number[] = []
    let closer = noCloser
    let at = start
    for (;;) {
      const first = bytes[at] ?? endOfText
      if (first === openBrace || first === openBracket) {
        if (outerClosers.length === depthMax) return tooDeep
        outerClosers.push(closer)
        closer = first === openBrace ? closeBrace : closeBracket
        at = this.skipWhitespace(at + 1)
        if (bytes[at] !== closer) {
          if (closer === closeBrace) at = this.#skipName(at)
          if (at < 0) return malformed
          continue
        }
      } else {
        at = this.#skipScalar(at, first)
        if (at < 0 || closer === noCloser) return at
        at = this.skipWhitespace(at)
      }

      while (bytes[at] === closer) {
        closer = outerClosers.pop() ?? noCloser
        at++
        if (closer === noCloser) return at
        at = this.skipWhitespace(at)
      }
      if (bytes[at] !== comma) return malformed
      at = this.skipWhitespace(at + 1)
      if (closer === closeBrace) at = this.#skipName(at)
      if (at < 0) return malformed
    }
  }

  /** From the opening quote to after the closing one. */
  skipString(start: number): number {
    return this.bytes[start] === quote ? this.#shown.stringEnd(start + 1) : malformed
  }

  /** From the end of a member's name, over the colon, to its value. */
  skipColon(nameEnd: number): number {
    const at = this.skipWhitespace(nameEnd)
    return this.bytes[at] === colon ? this.skipWhitespace(at + 1) : malformed
  }

  /** Inside a string: to the next quote, backslash or control character, or the end. */
  skipPlain(start: number): number {
    return this.#shown.plainEnd(start)
  }

  /** Outside of strings: to the next quote, brace or bracket, or the end. */
  skipUnstructured(start: number): number {
    return this.#shown.unstructuredEnd(start)
  }

  /** From a member's name to its value. */
  #skipName(start: number): number {
    const nameEnd = this.skipString(start)
    return nameEnd < 0 ? malformed : this.skipColon(nameEnd)
  }

  #skipScalar(at: number, first: number): number {
    if (first === quote) return this.skipString(at)
    if (first === letterT) return this.#skipLiteral(at, 'true')
    if (first === letterF) return this.#skipLiteral(at, 'false')
    if (first === letterN) return this.#skipLiteral(at, 'null')
    return this.#skipNumber(at)
  }

  #skipLiteral(start: number, literal: string): number {
    for (let index = 0; index < literal.length; index++) {
      if (this.bytes[start + index] !== literal.charCodeAt(index)) return malformed
    }
    return start + literal.length
  }

  #skipNumber(start: number): number {
    const bytes = this.bytes
    let at = bytes[start] === minus ? start + 1 : start
    at = bytes[at] === digit0 ? at + 1 : this.#skipDigits(at)
    if (at > 0 && bytes[at] === dot) at = this.#skipDigits(at + 1)
    if (at > 0 && (bytes[at] === letterE || bytes[at] === upperCaseE)) {
      const sign = bytes[at + 1]
      at = this.#skipDigits(sign === plus || sign === minus ? at + 2 : at + 1)
    }
    return at
  }

  #skipDigits(start: number): number {
    const bytes = this.bytes
    let at = start
    while (isDigit(bytes[at] ?? endOfText)) at++
    return at === start ? malformed : at
  }
}

const quote = 0x22
const backslash = 0x5c
const colon = 0x3a
const comma = 0x2c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d
const endOfText = 0
const noCloser = 0
const minus = 0x2d
const plus = 0x2b
const dot = 0x2e
const digit0 = 0x30
const letterE = 0x65
const upperCaseE = 0x45
const letterF = 0x66
const letterN = 0x6e
const letterT = 0x74

/** For other modules. A constant that is itself exported is no constant to V8: the loops above take 15% longer. */
export const jsonBytes = { quote, backslash, colon, comma, openBrace, closeBrace, openBracket, closeBracket } as const

export function isWhitespace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

function isDigit(byte: number): boolean {
  return byte >= digit0 && byte <= 0x39
}
