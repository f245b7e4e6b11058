/** What came is no HTTP/1.1 message, or could be read in more than one way. */
export class HttpProtocolError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'HttpProtocolError'
  }
}

/** Names in lower case; what came more than once is joined by commas. */
export type HeaderFields = Readonly<Record<string, string | undefined>>

/** Names and values in turn, to be written. */
export type HeaderList = readonly string[]

/** RFC 9112 §5: no space before the colon, and no line that goes on in the next one. */
const headerLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*(.*?)[\t ]*$/
const controlCharacter = /[^\t\x20-\x7e\x80-\xff]/

/** Reads the lines of a head that follow its first one. Throws `HttpProtocolError`. */
export function readHeaders(lines: readonly string[]): HeaderFields {
  const headers: Record<string, string> = Object.create(null)
  for (const line of lines) {
    const match = headerLine.exec(line)
    if (match === null || controlCharacter.test(line)) throw new HttpProtocolError('A header is not valid.')
    const [, spelled = '', value = ''] = match
    const name = spelled.toLowerCase()
    const earlier = headers[name]
    headers[name] = earlier === undefined ? value : `${earlier}, ${value}`
  }
  return headers
}

/** Writes a head's lines after its first one. Throws where a value could be read as more than one header. */
export function headerLines(headers: HeaderList): string {
  let lines = ''
  for (let index = 0; index < headers.length; index += 2) {
    const value = headers[index + 1] ?? ''
    if (controlCharacter.test(value)) throw new Error(`The value of the header ${headers[index]} cannot be sent.`)
    lines += `${headers[index]}: ${value}\r\n`
  }
  return lines
}

/** Whether a header that is a list of words, such as `connection`, has `word` among them. */
export function hasWord(value: string | undefined, word: string): boolean {
  if (value === undefined) return false
  return value.split(',').some((item) => item.trim().toLowerCase() === word)
}
