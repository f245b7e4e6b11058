import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Client } from 'undici'
import { HttpProtocolError } from '../../src/http1/headers.ts'
import { ResponseReader } from '../../src/outbound/response-reader.ts'
import { chunked, cuts } from '../support/chunks.ts'
import { malformedMessages, messageParts, testRefusals } from '../support/http-messages.ts'

describe('a response of an upstream', () => {
  test('is read the same however it is cut into pieces', () => {
    fc.assert(
      fc.property(response(), cuts(), ({ wire, status, body, headers }, fractions) => {
        const seen = read(chunked(Buffer.from(wire, 'latin1'), fractions))
        assert.equal(seen.status, status)
        assert.equal(seen.body, body)
        for (const [name, value] of Object.entries(headers)) assert.equal(seen.headers[name.toLowerCase()], value)
        assert.equal(seen.ended, true)
      }),
      { numRuns: 3_000 },
    )
  })

  test('is what another HTTP client reads', async () => {
    await fc.assert(
      fc.asyncProperty(response(), async ({ wire }) => {
        const seen = read([Buffer.from(wire, 'latin1')])
        const other = await readByUndici(wire)
        assert.equal(seen.status, other.status)
        assert.equal(seen.body, other.body)
      }),
      { numRuns: 100 },
    )
  })

  test('is not at its end while a byte of it is missing', () => {
    fc.assert(
      fc.property(response({ endless: false }), cuts(), fc.nat(), ({ wire }, fractions, seed) => {
        const bytes = Buffer.from(wire, 'latin1')
        assert.equal(read(chunked(bytes.subarray(0, seed % bytes.length), fractions)).ended, false)
      }),
    )
  })

  test('leaves the connection free only where nothing else can be on it', () => {
    const sized = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n'
    assert.equal(read([Buffer.from(`${sized}\r\nok`)]).keepsAlive, true)
    assert.equal(read([Buffer.from(`${sized}\r\nokHTTP/1.1 200 OK\r\n`)]).keepsAlive, false)
    assert.equal(read([Buffer.from(`${sized}connection: upgrade, Close\r\n\r\nok`)]).keepsAlive, false)
    assert.equal(read([Buffer.from('HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok')]).keepsAlive, false)
    assert.equal(read([Buffer.from(`${sized}keep-alive: max=9, timeout=7\r\n\r\nok`)]).keepAliveMs, 7_000)
  })

  test('announcements before it are passed over, and too many of them refused', () => {
    const hints = 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'
    const answer = 'HTTP/1.1 204 No Content\r\n\r\n'
    assert.equal(read([Buffer.from(hints.repeat(3) + answer)]).status, 204)
    assert.throws(() => read([Buffer.from(hints.repeat(20) + answer)]), HttpProtocolError)
  })

  const head = 'HTTP/1.1 200 OK\r\n'
  const refused: Record<string, string> = {
    ...malformedMessages(head),
    'another protocol': 'ICY 200 OK\r\n\r\n',
    'a switch of protocols': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
  }
  testRefusals(refused, read)
})

interface Seen {
  status: number
  headers: Readonly<Record<string, string | undefined>>
  body: string
  ended: boolean
  keepsAlive: boolean
  keepAliveMs: number | null
}

function read(pieces: readonly Buffer[]): Seen {
  const seen: Seen = { status: 0, headers: {}, body: '', ended: false, keepsAlive: false, keepAliveMs: null }
  const reader = new ResponseReader({
    onHead: (status, headers) => Object.assign(seen, { status, headers }),
    onData: (chunk) => {
      seen.body += chunk.toString('latin1')
    },
    onEnd: () => {
      assert.equal(seen.ended, false, 'ends once')
      seen.ended = true
    },
  })
  // The reader may move bytes within what it is given.
  for (const piece of pieces) if (piece.length > 0) reader.push(Buffer.from(piece))
  reader.finish()
  return { ...seen, keepsAlive: reader.keepsAlive, keepAliveMs: reader.keepAliveMs }
}

interface Response {
  wire: string
  status: number
  headers: Record<string, string>
  body: string
}

function response({ endless = true }: { endless?: boolean } = {}): fc.Arbitrary<Response> {
  return fc
    .record({
      status: fc.constantFrom(200, 201, 400, 404, 429, 500, 503),
      parts: messageParts(endless ? ['sized', 'chunked', 'none'] : ['sized', 'chunked']),
    })
    .map(({ status, parts: { headers, body, rest } }) => {
      return { wire: `HTTP/1.1 ${status} Some Reason\r\n${rest}`, status, headers, body }
    })
}

async function readByUndici(wire: string): Promise<{ status: number; body: string }> {
  const server = createServer((socket: Socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(Buffer.from(wire, 'latin1')))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  const client = new Client(`http://127.0.0.1:${port}`)
  try {
    const { statusCode, body } = await client.request({ method: 'GET', path: '/' })
    return { status: statusCode, body: Buffer.from(await body.arrayBuffer()).toString('latin1') }
  } finally {
    await client.destroy()
    server.close()
  }
}
