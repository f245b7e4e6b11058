import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HttpProtocolError } from '../../src/http1/headers.ts'
import { chunked, cuts } from './chunks.ts'

/** What an HTTP/1.1 message has after its first line, written down in one of many ways. */
export interface MessageParts {
  headers: Record<string, string>
  body: string
  /** Writes a header of the test's own in the message's letter case. */
  header(name: string, value: string): string
  /** From the headers on. */
  rest: string
}

/** How a message says where its body ends; with `none` it has no word about it, and with `empty` no body either. */
export type Framing = 'sized' | 'chunked' | 'none' | 'empty'

export function messageParts(framings: readonly Framing[]): fc.Arbitrary<MessageParts> {
  return fc
    .record({
      headers: fc.dictionary(
        fc.stringMatching(/^[a-z][a-z0-9!#$%&'*+.^_`|~-]{0,8}$/).map((name) => `x-${name}`),
        fc.stringMatching(/^([!-~\xa1-\xff]([ \t!-~]{0,20}[!-~])?)?$/),
        { maxKeys: 4 },
      ),
      parts: fc.array(fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 40 }), { maxLength: 12 }),
      framing: fc.constantFrom(...framings),
      extension: fc.constantFrom('', ';a=b', ';x="y"'),
      trailer: fc.constantFrom('', 'x-sum: 1\r\n', 'a: b\r\nc: d\r\n'),
      capitals: fc.boolean(),
      longHeader: fc.constantFrom({}, {}, {}, { 'x-long': 'x'.repeat(2_000) }),
    })
    .map(({ parts, framing, extension, trailer, capitals, ...given }) => {
      const headers = { ...given.headers, ...given.longHeader }
      const body = framing === 'empty' ? '' : parts.join('')
      const header = (name: string, value: string) => `${capitals ? name.toUpperCase() : name}: ${value}\r\n`
      const lines = Object.entries(headers).map(([name, value]) => header(name, value))
      const framingLine = {
        sized: header('content-length', String(body.length)),
        chunked: header('transfer-encoding', 'chunked'),
        none: '',
        empty: '',
      }[framing]
      const chunks = parts.map((part) => `${part.length.toString(16)}${extension}\r\n${part}\r\n`).join('')
      const content = framing === 'chunked' ? `${chunks}0\r\n${trailer}\r\n` : body
      return { headers, body, header, rest: `${lines.join('')}${framingLine}\r\n${content}` }
    })
}

/** Tests that `read` throws at each of `messages`, named by what is wrong with them. */
export function testRefusals(messages: Record<string, string>, read: (pieces: Buffer[]) => unknown): void {
  for (const [what, wire] of Object.entries(messages)) {
    test(`with ${what} is refused, however it is cut`, () => {
      fc.assert(
        fc.property(cuts(), (fractions) => {
          assert.throws(() => read(chunked(Buffer.from(wire, 'latin1'), fractions)), HttpProtocolError)
        }),
        { numRuns: 20 },
      )
    })
  }
}

/** HTTP/1.1 messages that are none, or could be read in more than one way, by what is wrong; `head` is their beginning. */
export function malformedMessages(head: string): Record<string, string> {
  const chunks = `${head}transfer-encoding: chunked\r\n\r\n`
  return {
    'two lengths': `${head}content-length: 2\r\ncontent-length: 3\r\n\r\nok`,
    'a length and chunks': `${head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    'a length with a sign': `${head}content-length: +2\r\n\r\nok`,
    'an unknown transfer encoding': `${head}transfer-encoding: gzip, chunked\r\n\r\n`,
    'a header that goes on in the next line': `${head}x-a: 1\r\n x-b: 2\r\n\r\n`,
    'a space before the colon': `${head}content-length : 2\r\n\r\nok`,
    'a line feed alone': `${head}x-a: 1\ncontent-length: 2\r\n\r\nok`,
    'a carriage return alone': `${head}x-a: 1\rcontent-length: 2\r\n\r\nok`,
    'a NUL in a header': `${head}x-a: \0\r\n\r\n`,
    'a chunk without a size': `${chunks}\r\nok\r\n`,
    'a size that is no number': `${chunks}0x2\r\nok\r\n`,
    'a size beyond all bodies': `${chunks}fffffffffff\r\n`,
    'a chunk longer than its size': `${chunks}1\r\nok\r\n0\r\n\r\n`,
    'a chunk line ended by a line feed alone': `${chunks}2\nok\r\n0\r\n\r\n`,
    'a trailer that begins with a line feed': `${chunks}0\r\n\n\r\n`,
    'an endless extension': `${chunks}2;${'a'.repeat(5_000)}\r\nok\r\n`,
    'an endless trailer': `${chunks}0\r\n${'a: b\r\n'.repeat(20_000)}\r\n`,
    'an endless head': `${head}${'x-a: 1\r\n'.repeat(10_000)}\r\n`,
  }
}
