import type { Dialect, TextMember } from './dialects.ts'
import { textOfBeginning } from './generated-text.ts'
import { type Edit, MemberNames, scanJsonObject } from './json-scan.ts'
import { isWhitespace, JsonText, jsonBytes, type Span } from './json-text.ts'
import { lastingCopy, type ResponseTap, type Tapped, tapped } from './response-tap.ts'

const { backslash, closeBrace, closeBracket, colon, comma, openBrace, openBracket, quote } = jsonBytes

export interface JsonBodyTapOptions {
  dialect: Dialect
  /** The name by which the client knows the model; null leaves upstream's. */
  model: string | null
  /** Of the members that are kept; of the text in a longer one, what stands so far at its beginning counts. */
  keptBytesMax?: number
}

/**
 * An answer in one piece, a JSON object, on its way from upstream to the client. It may be 50 MB of embeddings and
 * is never in memory as a whole: every chunk is walked once, whatever it is cut through, and leaves at once, with
 * the model's name at the top replaced. Of the other members only those that billing needs are kept. The closing
 * brace and what follows are `final`; of an answer that came in one chunk all is.
 *
 * It sees where values begin and end, not whether scalars are well-formed: upstream answers for its JSON. What is
 * no object, or breaks its structure, flows through as it is and never is `complete`.
 */
export class JsonBodyTap implements ResponseTap {
  readonly #dialect: Dialect
  readonly #modelJson: Buffer | null
  readonly #keptBytesMax: number
  readonly #keptNames: readonly KeptName[]
  readonly #kept = new Map<KeptName, KeptValue>()
  #expected: Expected = 'object'
  /** Whether the next byte is inside a string of any kind and, if so, follows a backslash. */
  #inString = false
  #escaped = false
  /** What closes the arrays and objects open inside the member's value, the innermost last. */
  readonly #closers: number[] = []
  /** The member's name as it is written, quotes included. */
  #name = ''
  #keeping: KeptValue | null = null
  /** Takes the place of the member's value; null leaves it. */
  #replacement: Buffer | null = null
  /** From where on the chunk that closed the object is final. */
  #finalAt: number | null = null

  readonly isUsageOutrun = false

  constructor({ dialect, model, keptBytesMax = 1024 * 1024 }: JsonBodyTapOptions) {
    this.#dialect = dialect
    this.#modelJson = model === null ? null : Buffer.from(JSON.stringify(model))
    this.#keptBytesMax = keptBytesMax
    this.#keptNames = ['usage', 'error', ...dialect.textMembers]
  }

  push(chunk: Buffer): Tapped {
    const closedBefore = this.#finalAt !== null
    const edits = (this.#expected === 'object' ? this.#readWhole(chunk) : null) ?? this.#walk(chunk)
    return tapped(chunk, edits, closedBefore ? 0 : (this.#finalAt ?? chunk.length))
  }

  end(): Tapped {
    return { send: null, final: null }
  }

  get complete(): boolean {
    return this.#expected === 'nothing'
  }

  usage(): Readonly<Record<string, unknown>> | null {
    const usage = this.#keptValue('usage')
    return typeof usage === 'object' && usage !== null ? { ...usage } : null
  }

  error(): string | null {
    const error = this.#keptValue('error')
    return error === null ? null : JSON.stringify(error)
  }

  producedText(): string {
    const texts = this.#dialect.textMembers.map((name) => {
      const value = this.#keptValue(name)
      return value === null ? textOfBeginning(this.#keptJson(name).toString()) : this.#dialect.textOf({ [name]: value })
    })
    return texts.join('')
  }

  #keptValue(name: KeptName): unknown {
    // What JSON.parse throws takes 5 µs, and most members never come.
    return this.#kept.has(name) ? parsedOrNull(this.#keptJson(name)) : null
  }

  /** Of a value that broke off, or is longer than allowed, the beginning, which is no JSON. */
  #keptJson(name: KeptName): Buffer {
    return Buffer.concat(this.#kept.get(name)?.pieces ?? [])
  }

  /** Reads an answer that came in one chunk, in half the time of a walk; null when the chunk is something else. */
  #readWhole(chunk: Buffer): Edit[] | null {
    if (chunk.length > this.#keptBytesMax) return null
    const scanned = scanJsonObject(chunk, wholeMembers)
    if (!scanned.ok) return null
    this.#expected = 'nothing'
    this.#finalAt = 0
    for (const name of this.#keptNames) {
      const span = scanned.members[name]
      if (span !== undefined) this.#kept.set(name, { pieces: [chunk.subarray(span.start, span.end)], bytes: 0 })
    }
    const { model } = scanned.members
    if (model === undefined || this.#modelJson === null || chunk[model.start] !== quote) return []
    return [{ ...model, replacement: this.#modelJson }]
  }

  #walk(chunk: Buffer): Edit[] {
    const edits: Edit[] = []
    const text = new JsonText(chunk)
    for (let at = 0; at < chunk.length; ) {
      const start = at
      const passed = this.#expected
      at = this.#pass(text, start)
      if (passed === 'rest of name') this.#addToName(chunk, { start, end: at })
      if (passed === 'rest of string' || passed === 'rest of nested' || passed === 'rest of scalar') {
        this.#keep(chunk, { start, end: at })
        if (this.#replacement !== null) edits.push({ start, end: at, replacement: this.#replacement })
        if (this.#replacement !== null) this.#replacement = noBytes
      }
    }
    return edits
  }

  /** Passes what is expected, as far as the chunk has it; answers where to go on. */
  #pass(text: JsonText, start: number): number {
    switch (this.#expected) {
      case 'rest of name':
        return this.#passString(text, { start, next: 'colon' })
      case 'rest of string':
        return this.#passString(text, { start, next: 'comma or end' })
      case 'rest of nested':
        return this.#passNested(text, start)
      case 'rest of scalar':
        return this.#passScalar(text, start)
      case 'broken':
        return text.bytes.length
      default:
        return this.#passMark(text, { start, expected: this.#expected })
    }
  }

  /** Over whitespace to the next mark, and over it; where it is the first byte of something, only up to it. */
  #passMark(text: JsonText, { start, expected }: { start: number; expected: ExpectedMark }): number {
    const at = text.skipWhitespace(start)
    const byte = text.bytes[at]
    if (byte === undefined) return at
    const next = marks[expected][byte] ?? (expected === 'value' ? 'rest of scalar' : 'broken')
    this.#expected = next
    if (expected === 'value') this.#beginValue(next)
    if (next === 'rest of name') this.#name = ''
    if (next === 'nothing') this.#finalAt = at
    return next.startsWith('rest of') ? at : at + 1
  }

  #beginValue(kind: Expected): void {
    const name = this.#name.includes('\\') ? parsedOrNull(Buffer.from(this.#name)) : this.#name.slice(1, -1)
    this.#replacement = name === 'model' && kind === 'rest of string' ? this.#modelJson : null
    this.#keeping = null
    const keptName = this.#keptNames.find((kept) => kept === name)
    if (keptName === undefined) return
    this.#keeping = { pieces: [], bytes: 0 }
    this.#kept.set(keptName, this.#keeping)
  }

  #passString(text: JsonText, { start, next }: { start: number; next: Expected }): number {
    const bytes = text.bytes
    let at = start
    if (!this.#inString) at++
    this.#inString = true
    while (at < bytes.length) {
      if (this.#escaped) {
        this.#escaped = false
        at++
        continue
      }
      at = text.skipPlain(at)
      const byte = bytes[at++]
      if (byte === backslash) this.#escaped = true
      else if (byte !== undefined) {
        this.#inString = false
        this.#expected = byte === quote ? next : 'broken'
        return at
      }
    }
    return bytes.length
  }

  #passNested(text: JsonText, start: number): number {
    const bytes = text.bytes
    let at = start
    while (at < bytes.length) {
      const byte = bytes[at]
      if (this.#inString || byte === quote) {
        at = this.#passString(text, { start: at, next: 'rest of nested' })
        if (this.#expected === 'broken') return at
        continue
      }
      if (byte === openBrace || byte === openBracket) {
        if (this.#closers.push(byte === openBrace ? closeBrace : closeBracket) > depthMax) this.#expected = 'broken'
      }
      if (byte === closeBrace || byte === closeBracket) {
        if (this.#closers.pop() !== byte) this.#expected = 'broken'
        else if (this.#closers.length === 0) this.#expected = 'comma or end'
      }
      at++
      if (this.#expected !== 'rest of nested') return at
      at = text.skipUnstructured(at)
    }
    return at
  }

  #passScalar({ bytes }: JsonText, start: number): number {
    let at = start
    while (at < bytes.length && !endsScalar(bytes[at] ?? 0)) at++
    if (at < bytes.length) this.#expected = 'comma or end'
    return at
  }

  #addToName(chunk: Buffer, { start, end }: Span): void {
    if (this.#name.length <= nameLengthMax) this.#name += chunk.toString('latin1', start, end)
  }

  #keep(chunk: Buffer, { start, end }: Span): void {
    if (this.#keeping === null) return
    this.#keeping.bytes += end - start
    if (this.#keeping.bytes <= this.#keptBytesMax) this.#keeping.pieces.push(lastingCopy(chunk.subarray(start, end)))
  }
}

type KeptName = 'usage' | 'error' | TextMember

const wholeMembers = new MemberNames(['model', 'usage', 'error', 'choices', 'content', 'output'])

interface KeptValue {
  /** Copies: a view would keep a whole chunk in memory. */
  pieces: Buffer[]
  bytes: number
}

type ExpectedMark = 'object' | 'first name' | 'name' | 'colon' | 'value' | 'comma or end' | 'nothing'
type Expected = ExpectedMark | 'rest of name' | 'rest of string' | 'rest of nested' | 'rest of scalar' | 'broken'

/** What each mark leads to; any other one breaks the structure, except that a value may start with anything else. */
const marks: Record<ExpectedMark, Partial<Record<number, Expected>>> = {
  object: { [openBrace]: 'first name' },
  'first name': { [quote]: 'rest of name', [closeBrace]: 'nothing' },
  name: { [quote]: 'rest of name' },
  colon: { [colon]: 'value' },
  value: {
    [quote]: 'rest of string',
    [openBrace]: 'rest of nested',
    [openBracket]: 'rest of nested',
    [comma]: 'broken',
    [colon]: 'broken',
    [closeBrace]: 'broken',
    [closeBracket]: 'broken',
  },
  'comma or end': { [comma]: 'name', [closeBrace]: 'nothing' },
  nothing: {},
}

/** Longer names are none that matter. */
const nameLengthMax = 256
const depthMax = 512
const noBytes = Buffer.alloc(0)

function endsScalar(byte: number): boolean {
  return byte === comma || byte === closeBrace || isWhitespace(byte)
}

function parsedOrNull(json: Buffer): unknown {
  try {
    return JSON.parse(json.toString('utf8'))
  } catch {
    return null
  }
}
