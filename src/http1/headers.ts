/** What came is no HTTP/1.1 message, or could be read in more than one way. */
export class HttpProtocolError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'HttpProtocolError'
  }
}

/** Names in lower case; what came more than once is joined by commas. */
export type HeaderFields = Readonly<Record<string, string | undefined>>

export const lineEnd = '\r\n'

/** Names and values in turn, to be written. */
export type HeaderList = readonly string[]

/**
 * Reads the lines of a head from `start` on, each of which ends in CRLF (RFC 9112 §5): no space before the colon, and no
 * line that goes on in the next one. Throws `HttpProtocolError`.
 */
export function readHeaders(lines: string, start: number): HeaderFields {
  const headers: Record<string, string> = Object.create(null)
  for (let at = start, end = 0; at < lines.length; at = end + lineEnd.length) {
    end = lines.indexOf(lineEnd, at)
    const colon = lines.indexOf(':', at)
    const name = colon === -1 ? null : fieldName(lines.slice(at, colon))
    if (name === null) throw new HttpProtocolError('A header is not valid.')
    const value = withoutBlanks(lines, { start: colon + 1, end })
    const earlier = headers[name]
    headers[name] = earlier === undefined ? value : `${earlier}, ${value}`
  }
  return headers
}

/** What nearly all headers are called: to find a name costs less than to check it and to write it in lower case. */
const commonNames = new Map(
  [
    ...[
      'accept',
      'accept-encoding',
      'accept-language',
      'authorization',
      'cache-control',
      'connection',
      'content-length',
    ],
    ...['content-type', 'cookie', 'date', 'host', 'keep-alive', 'server', 'transfer-encoding', 'user-agent', 'vary'],
  ].flatMap((name) => [
    [name, name],
    [name.replace(/\b[a-z]/g, (letter) => letter.toUpperCase()), name],
  ]),
)

function fieldName(spelled: string): string | null {
  const common = commonNames.get(spelled)
  if (common !== undefined) return common
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(spelled) ? spelled.toLowerCase() : null
}

/** `trim` would take more than the RFC lets go. */
function withoutBlanks(text: string, { start, end }: { start: number; end: number }): string {
  let from = start
  let to = end
  while (isBlank(text.charCodeAt(from))) from++
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

function isBlank(character: number): boolean {
  return character === 0x20 || character === 0x09
}

const unfitForHeader = /[^\t\x20-\x7e\x80-\xff]/

/** Whether `headerLines` would write it. */
export function isHeaderValue(value: string): boolean {
  return !unfitForHeader.test(value)
}

/** Writes a head's lines after its first one. Throws where a value could be read as more than one header. */
export function headerLines(headers: HeaderList): string {
  let lines = ''
  for (let index = 0; index < headers.length; index += 2) {
    const value = headers[index + 1] ?? ''
    if (!isHeaderValue(value)) throw new Error(`The value of the header ${headers[index]} cannot be sent.`)
    lines += `${headers[index]}: ${value}\r\n`
  }
  return lines
}

/** Whether a header that is a list of words, such as `connection`, has `word` among them. */
export function hasWord(value: string | undefined, word: string): boolean {
  if (value === undefined) return false
  return value.split(',').some((item) => item.trim().toLowerCase() === word)
}
