import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type RequestHead, RequestReader } from '../../src/inbound/request-reader.ts'
import { chunked, cuts } from '../support/chunks.ts'
import { malformedMessages, messageParts, testRefusals } from '../support/http-messages.ts'

describe('a request of a client', () => {
  test('is read the same however it is cut into pieces', () => {
    fc.assert(
      fc.property(request(), cuts(), ({ wire, method, target, headers, body }, fractions) => {
        const [seen, ...others] = read(chunked(Buffer.from(wire, 'latin1'), fractions))
        assert.deepEqual(others, [])
        assert.equal(seen?.head.method, method)
        assert.equal(seen?.head.target, target)
        assert.equal(seen?.body, body)
        for (const [name, value] of Object.entries(headers)) assert.equal(seen?.head.headers[name.toLowerCase()], value)
      }),
      { numRuns: 3_000 },
    )
  })

  test('ends where the next one on the connection begins', () => {
    fc.assert(
      fc.property(fc.array(request(), { minLength: 2, maxLength: 4 }), cuts(), (requests, fractions) => {
        const wire = requests.map((each) => each.wire).join('')
        const seen = read(chunked(Buffer.from(wire, 'latin1'), fractions))
        assert.deepEqual(
          seen.map(({ head, body }) => [head.method, head.target, body]),
          requests.map(({ method, target, body }) => [method, target, body]),
        )
      }),
    )
  })

  test('is what another HTTP server reads', async () => {
    await fc.assert(
      fc.asyncProperty(request(), async ({ wire }) => {
        const [seen] = read([Buffer.from(wire, 'latin1')])
        assert.deepEqual(
          { method: seen?.head.method, target: seen?.head.target, body: seen?.body },
          await readByNode(wire),
        )
      }),
      { numRuns: 100 },
    )
  })

  test('is not at its end while a byte of it is missing', () => {
    fc.assert(
      fc.property(request(), cuts(), fc.nat(), ({ wire }, fractions, seed) => {
        const bytes = Buffer.from(wire, 'latin1')
        assert.deepEqual(read(chunked(bytes.subarray(0, seed % bytes.length), fractions)), [])
      }),
    )
  })

  test('may have empty lines before it', () => {
    fc.assert(
      fc.property(request(), cuts(), ({ wire, target }, fractions) => {
        const [seen] = read(chunked(Buffer.from(`\r\n\r\n${wire}`, 'latin1'), fractions))
        assert.equal(seen?.head.target, target)
      }),
    )
  })

  test('may have a URL as its target, whose host then counts', () => {
    const asked = (target: string, headers = 'host: a\r\n') => {
      const [seen] = read([Buffer.from(`GET ${target} HTTP/1.1\r\n${headers}\r\n`)])
      return [seen?.head.host, seen?.head.target]
    }
    assert.deepEqual(asked('/v1?a=b'), ['a', '/v1?a=b'])
    assert.deepEqual(asked('http://b/v1?a=http://c/d'), ['b', '/v1?a=http://c/d'])
    assert.deepEqual(asked('HTTPS://B.example.com:443/v1'), ['B.example.com:443', '/v1'])
    assert.deepEqual(asked('http://[::1]:80'), ['[::1]:80', '/'])
    assert.deepEqual(asked('http://b?a'), ['b', '/?a'])
    assert.deepEqual(asked('/http://b/c'), ['a', '/http://b/c'])
    assert.deepEqual(asked('*'), ['a', '*'])
  })

  test('says whether another one may follow', () => {
    const keepsAlive = (version: string, connection: string) =>
      read([Buffer.from(`GET / HTTP/${version}\r\nhost: a\r\n${connection}\r\n`)])[0]?.head.keepsAlive
    assert.equal(keepsAlive('1.1', ''), true)
    assert.equal(keepsAlive('1.1', 'connection: upgrade, Close\r\n'), false)
    assert.equal(keepsAlive('1.0', ''), false)
    assert.equal(keepsAlive('1.0', 'Connection: Keep-Alive\r\n'), true)
  })

  const line = 'POST /v1/chat/completions HTTP/1.1\r\n'
  const head = `${line}host: a\r\n`
  const refused: Record<string, string> = {
    ...malformedMessages(head),
    'no host': `${line}content-length: 2\r\n\r\nok`,
    'two hosts': `${head}host: b\r\n\r\n`,
    'the same length twice': `${head}content-length: 2\r\ncontent-length: 2\r\n\r\nok`,
    'a length in hexadecimal': `${head}content-length: 0x2\r\n\r\nok`,
    'a length followed by a no-break space': `${head}content-length: 2\xa0\r\n\r\nok`,
    'an empty length': `${head}content-length:\r\n\r\nok`,
    'chunked spelled with a vertical tab': `${head}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n`,
    'chunks in HTTP/1.0': `POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    'a header without a colon': `${head}content-length\r\n\r\nok`,
    'a header without a name': `${head}: 2\r\n\r\nok`,
    'a carriage return alone': `${head}x-a: 1\rcontent-length: 2\r\n\r\nok`,
    'a space in the target': `POST /v1 /chat HTTP/1.1\r\nhost: a\r\n\r\n`,
    'two spaces in the first line': `POST  / HTTP/1.1\r\nhost: a\r\n\r\n`,
    'a URL and no host': 'GET http://a/ HTTP/1.1\r\n\r\n',
    'a URL and two hosts': 'GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n',
    'a URL without a host': 'GET http:///v1 HTTP/1.1\r\nhost: a\r\n\r\n',
    'a URL with a user': 'GET http://b@a/ HTTP/1.1\r\nhost: a\r\n\r\n',
    'a URL with a backslash': 'GET http://b\\a/ HTTP/1.1\r\nhost: a\r\n\r\n',
    'a URL with two hosts': 'GET http://b,a/ HTTP/1.1\r\nhost: a\r\n\r\n',
    'a URL with a fragment for a path': 'GET http://b#/v1 HTTP/1.1\r\nhost: a\r\n\r\n',
    'a URL whose port is no number': 'GET http://b:8x/ HTTP/1.1\r\nhost: a\r\n\r\n',
    'a URL without slashes': 'GET http:b/v1 HTTP/1.1\r\nhost: a\r\n\r\n',
    'no version': 'GET /\r\nhost: a\r\n\r\n',
    'another protocol': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'the greeting of TLS': '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n',
    'a size with a sign': `${head}transfer-encoding: chunked\r\n\r\n-2\r\nok\r\n`,
  }
  testRefusals(refused, read)
})

interface Seen {
  head: RequestHead
  body: string
}

/** The requests that have come to their end. */
function read(pieces: readonly Buffer[]): Seen[] {
  const complete: Seen[] = []
  const nextReader = (): RequestReader => {
    let seen: Seen | null = null
    return new RequestReader({
      onHead: (head) => {
        seen = { head, body: '' }
      },
      onData: (chunk) => {
        if (seen !== null) seen.body += chunk.toString('latin1')
      },
      onEnd: () => {
        if (seen !== null) complete.push(seen)
      },
    })
  }
  let reader = nextReader()
  for (const piece of pieces) {
    // The reader may move bytes within what it is given.
    let rest = Buffer.from(piece)
    while (rest.length > 0) {
      rest = rest.subarray(reader.push(rest))
      if (reader.isComplete) reader = nextReader()
    }
  }
  return complete
}

interface Request {
  wire: string
  method: string
  target: string
  headers: Record<string, string>
  body: string
}

function request(): fc.Arbitrary<Request> {
  return fc
    .record({
      method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS'),
      target: fc.stringMatching(/^\/[!-~]{0,20}$/),
      parts: messageParts(['sized', 'chunked', 'empty']),
    })
    .map(({ method, target, parts: { headers, body, header, rest } }) => {
      return { wire: `${method} ${target} HTTP/1.1\r\n${header('host', 'a')}${rest}`, method, target, headers, body }
    })
}

async function readByNode(wire: string): Promise<{ method: unknown; target: unknown; body: string }> {
  const seen = Promise.withResolvers<{ method: unknown; target: unknown; body: string }>()
  const server = createServer((incoming, outgoing) => {
    let body = ''
    incoming.setEncoding('latin1')
    incoming.on('data', (text: string) => {
      body += text
    })
    incoming.on('end', () => {
      seen.resolve({ method: incoming.method, target: incoming.url, body })
      outgoing.end()
    })
  })
  server.on('clientError', (error) => seen.reject(error))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  try {
    socket.write(Buffer.from(wire, 'latin1'))
    return await seen.promise
  } finally {
    socket.destroy()
    server.close()
    server.closeAllConnections()
  }
}
