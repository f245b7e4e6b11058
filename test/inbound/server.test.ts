import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import type { InboundRequest } from '../../src/inbound/request.ts'
import type { InboundResponse } from '../../src/inbound/response.ts'
import { InboundServer, type InboundServerOptions } from '../../src/inbound/server.ts'
import { ServingTime } from '../../src/listen.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'

const stallTimeoutMs = 300_000

type Handler = (request: InboundRequest, response: InboundResponse) => unknown

describe('the server of the inference plane', () => {
  test('answers one request after the other on a connection', async () => {
    await using server = await serving(echo)
    const client = await server.connect()
    client.send(post('one'))
    assert.match(await client.received(/one$/), /^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 3\r\n\r\none$/)
    client.send(post('two'))
    const both = await client.received(/two$/)
    assert.match(both, /connection: keep-alive\r\nkeep-alive: timeout=75\r\n/)
    assert.match(both, /date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n/)
  })

  test('answers requests that came together in their order, also when a later one is ready sooner', async () => {
    const first = Promise.withResolvers<void>()
    let begun = 0
    await using server = await serving(async (request, response) => {
      begun += 1
      if (request.target === '/1') await first.promise
      response.start(200, [], { bodyLength: 2 })
      response.end(Buffer.from(request.target))
    })
    const client = await server.connect()
    client.send('GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HT')
    client.send('TP/1.1\r\nhost: a\r\n\r\n')
    await until(() => begun === 1)
    first.resolve()
    assert.deepEqual((await client.received(/\/3$/)).match(/\/[123](?=HTTP|$)/g), ['/1', '/2', '/3'])
  })

  test('sends what is written in one turn as one HTTP chunk, and ends the body', async () => {
    await using server = await serving((_request, response) => {
      response.start(200, ['content-type', 'text/plain'], { bodyLength: null })
      response.write(Buffer.from('ab'))
      response.write(Buffer.alloc(0))
      response.end(Buffer.from('c'))
    })
    const client = await server.connect()
    client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    assert.match(await client.received(/0\r\n\r\n$/), /transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n$/)
  })

  test('sends the head before there is a body, and the end when there is nothing more of it', async () => {
    const headSeen = Promise.withResolvers<void>()
    await using server = await serving(async (_request, response) => {
      response.start(200, [], { bodyLength: null })
      await headSeen.promise
      response.write(Buffer.from('abc'))
      await new Promise((resolve) => setImmediate(resolve))
      await new Promise((resolve) => setImmediate(resolve))
      response.end()
    })
    const client = await server.connect()
    client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    await client.received(/chunked\r\n\r\n$/)
    headSeen.resolve()
    assert.match(await client.received(/0\r\n\r\n$/), /chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n$/)
  })

  test('lets nothing that is done to a response after its end reach the next one', async () => {
    let first: InboundResponse | null = null
    await using server = await serving(async (request, response) => {
      first ??= response
      if (first !== response) {
        first.write(Buffer.from('late'))
        first.end()
        first.cut()
        await new Promise((resolve) => setImmediate(resolve))
      }
      await echo(request, response)
    })
    const client = await server.connect()
    client.send(post('one'))
    await client.received(/one$/)
    client.send(post('two'))
    assert.doesNotMatch(await client.received(/two$/), /late/)
  })

  test('tells a client of HTTP/1.0 where the body ends by closing', async () => {
    await using server = await serving((_request, response) => {
      response.start(200, [], { bodyLength: null })
      response.end(Buffer.from('abc'))
    })
    const client = await server.connect()
    client.send('GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n')
    const answer = await client.ended()
    assert.match(answer, /connection: close\r\n\r\nabc$/)
    assert.doesNotMatch(answer, /transfer-encoding/)
  })

  test('keeps the connection of a client of HTTP/1.0 that asks for it, where the length is known', async () => {
    await using server = await serving(echo)
    const client = await server.connect()
    for (const body of ['one', 'two']) {
      client.send(`POST / HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\n${body}`)
      await client.received(new RegExp(`${body}$`))
    }
  })

  test('closes the connection when the client asks for it', async () => {
    await using server = await serving(echo)
    const client = await server.connect()
    client.send('POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok')
    assert.match(await client.ended(), /connection: close\r\n[\s\S]*ok$/)
  })

  test('answers HEAD without a body', async () => {
    await using server = await serving(refuse)
    const client = await server.connect()
    client.send('HEAD / HTTP/1.1\r\nhost: a\r\n\r\n')
    client.send(post('next'))
    assert.match(await client.received(/refused$/), /content-length: 7\r\n\r\nHTTP\/1\.1 401 Unauthorized\r\n/)
  })

  test('asks for a body that waits to be asked for, once somebody wants it', async () => {
    await using server = await serving(echo)
    const client = await server.connect()
    client.send('POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n')
    await client.received(/^HTTP\/1\.1 100 Continue\r\n\r\n$/)
    client.send('ok')
    assert.match(await client.received(/ok$/), /100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
  })

  test('keeps the connection of a client that sent its body without being asked', async () => {
    await using server = await serving(async (request, response) => {
      await Promise.resolve()
      refuse(request, response)
    })
    const client = await server.connect()
    client.send('POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nok')
    assert.match(await client.received(/refused$/), /^HTTP\/1\.1 401 Unauthorized\r\n[\s\S]*connection: keep-alive/)
  })

  test('closes the connection of a client whose body was not asked for', async () => {
    await using server = await serving(refuse)
    const client = await server.connect()
    client.send('POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n')
    assert.match(await client.ended(), /^HTTP\/1\.1 401 Unauthorized\r\n[\s\S]*connection: close\r\n/)
  })

  test('reads over the body of a refused request to the next one', async () => {
    await using server = await serving((request, response) =>
      (request.target === '/' ? refuse : echo)(request, response),
    )
    const client = await server.connect()
    client.send(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n${'x'.repeat(100_000)}`)
    await client.received(/401 Unauthorized/)
    client.send('x'.repeat(200_000))
    client.send('POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok')
    await client.received(/200 OK\r\n[\s\S]*ok$/)
  })

  test('does not hold more of a body than was asked for', async () => {
    const bodies: unknown[] = []
    await using server = await serving(async (request, response) => {
      bodies.push(await request.body({ bytesMax: 10 }))
      refuse(request, response)
    })
    const client = await server.connect()
    client.send('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n')
    await client.received(/401/)
    client.send('x'.repeat(11))
    client.send(
      'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n6\r\nxxxxxx\r\n5\r\nxxxxx\r\n0\r\n\r\n',
    )
    await client.received(/401[\s\S]*401/)
    client.send(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n${'x'.repeat(10)}`)
    await client.received(/401[\s\S]*401[\s\S]*401/)
    assert.deepEqual(bodies, ['too-large', 'too-large', Buffer.from('xxxxxxxxxx')])
  })

  test('stops reading a body that nobody has asked for yet', async () => {
    const asked = Promise.withResolvers<void>()
    await using server = await serving(async (request, response) => {
      await asked.promise
      echo(request, response)
    })
    const client = await server.connect()
    const body = 'x'.repeat(30_000_000)
    client.send(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    await until(() => server.connections().some((socket) => socket.isPaused()))
    const readBytes = () => server.connections().reduce((sum, socket) => sum + socket.bytesRead, 0)
    assert.ok(readBytes() < 1_000_000, `${readBytes()} bytes were read`)
    asked.resolve()
    assert.ok((await client.received(/x{1000}$/, 30_000_000)).length > 30_000_000)
  })

  test('stops reading requests ahead of their turn', async () => {
    const answered = Promise.withResolvers<void>()
    await using server = await serving(async (request, response) => {
      await answered.promise
      await echo(request, response)
    })
    const client = await server.connect()
    const requests = 200_000
    client.send(post('ok').repeat(requests))
    await until(() => server.connections().some((socket) => socket.isPaused()))
    const readBytes = () => server.connections().reduce((sum, socket) => sum + socket.bytesRead, 0)
    assert.ok(readBytes() < 1_000_000, `${readBytes()} bytes were read`)
    answered.resolve()
    await until(() => server.requests() > 10_000)
  })

  test('ends a request at once whose body cannot be understood', async () => {
    const gone = Promise.withResolvers<void>()
    const body = Promise.withResolvers<unknown>()
    await using server = await serving((request, response) => {
      response.onGone(gone.resolve)
      body.resolve(request.body({ bytesMax: 100 }))
    })
    const client = await server.connect({ allowHalfOpen: true })
    client.send('POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n')
    await gone.promise
    assert.equal(await body.promise, 'cut-off')
    assert.equal(server.connections().length, 1)
  })

  test('says when a client that reads slowly has read', async () => {
    let isDrained = false
    await using server = await serving((_request, response) => {
      response.onDrain(() => {
        isDrained = true
        response.end()
      })
      response.start(200, [], { bodyLength: null })
      assert.equal(response.write(Buffer.alloc(20_000_000)), false)
    })
    const client = await server.connect()
    client.socket.pause()
    client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    await until(() => server.connections().some((socket) => socket.writableLength > 0))
    assert.equal(isDrained, false)
    client.socket.resume()
    await client.received(/0\r\n\r\n$/, 20_000_000)
    assert.equal(isDrained, true)
  })

  for (const connection of ['keep-alive', 'close']) {
    test(`sends all of an answer that is over to a client that goes on reading it, with connection: ${connection}`, async () => {
      const clock = new ManualClock()
      const answers: InboundResponse[] = []
      await using server = await serving(longAnswer(answers), { clock })
      const client = await server.connect()
      const unsentBytes = () => server.connections().reduce((sum, socket) => sum + socket.writableLength, 0)
      client.socket.pause()
      client.send(`GET / HTTP/1.1\r\nhost: a\r\nconnection: ${connection}\r\n\r\n`)
      await until(() => answers[0]?.isOver)
      server.server.closeIdleConnections()
      clock.advance(stallTimeoutMs - 200)
      const before = unsentBytes()
      client.socket.resume()
      await until(() => unsentBytes() < before)
      client.socket.pause()
      clock.advance(stallTimeoutMs - 200)
      client.socket.resume()
      await client.received(/0\r\n\r\n$/, 20_000_000)
    })

    test(`cuts a client that stops reading an answer that is over, with connection: ${connection}`, async () => {
      const clock = new ManualClock()
      const answers: InboundResponse[] = []
      await using server = await serving(longAnswer(answers), { clock })
      const client = await server.connect()
      client.socket.pause()
      client.send(`GET / HTTP/1.1\r\nhost: a\r\nconnection: ${connection}\r\n\r\n`)
      await until(() => answers[0]?.isOver)
      clock.advance(stallTimeoutMs + 200)
      await until(() => server.connections().length === 0)
    })
  }

  test('does not answer further requests of a client that does not read its answers', async () => {
    const total = 20_000
    await using server = await serving((_request, response) => {
      response.start(200, [], { bodyLength: 10_000 })
      response.end(Buffer.alloc(10_000, 'x'))
    })
    const client = await server.connect()
    client.socket.pause()
    client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(total))
    await until(() => server.requests() === total || server.connections().some((socket) => socket.isPaused()))
    const unsentBytes = server.connections().reduce((sum, socket) => sum + socket.writableLength, 0)
    assert.ok(unsentBytes < 1_000_000, `${unsentBytes} bytes wait`)
    client.socket.resume()
    await until(() => server.requests() === total)
    await client.received(/x{10000}$/, total * 10_000)
  })

  test('tells at once of a client that leaves, by either way of leaving', async () => {
    for (const leave of [(socket: Socket) => socket.destroy(), (socket: Socket) => socket.end()]) {
      const gone = Promise.withResolvers<void>()
      const body = Promise.withResolvers<unknown>()
      await using server = await serving((request, response) => {
        response.onGone(gone.resolve)
        body.resolve(request.body({ bytesMax: 100 }))
      })
      const client = await server.connect()
      client.send('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc')
      await until(() => server.requests() === 1)
      leave(client.socket)
      await gone.promise
      assert.equal(await body.promise, 'cut-off')
    }
  })

  const problems = {
    malformed: [
      'GET / HTTP/1.1\r\nx-a: 1\r\n x-b: 2\r\n\r\n',
      'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    ],
    'head-too-large': [`GET / HTTP/1.1\r\nhost: a\r\nx-a: ${'a'.repeat(20_000)}\r\n\r\n`],
  }
  for (const [problem, wires] of Object.entries(problems)) {
    test(`tells a client that what it sent is ${problem}, and closes`, async () => {
      for (const wire of wires) {
        await using server = await serving(echo)
        const client = await server.connect()
        client.send(wire)
        assert.match(
          await client.ended(),
          new RegExp(`^HTTP/1\\.1 400 Bad Request\\r\\n[\\s\\S]*connection: close\\r\\n[\\s\\S]*${problem}$`),
        )
      }
    })
  }

  test('answers a request before it tells that the next one is malformed', async () => {
    await using server = await serving(echo)
    const client = await server.connect()
    client.send(`${post('ok')}nonsense\r\n\r\n`)
    assert.match(await client.ended(), /200 OK[\s\S]*ok[\s\S]*400 Bad Request[\s\S]*malformed$/)
  })

  const states: Record<string, { sent: string; afterMs: number; told: RegExp; answered?: RegExp }> = {
    'that sends nothing': { sent: '', afterMs: 1_000, told: /^$/ },
    'that sends nothing but empty lines': { sent: '\r\n\r\n', afterMs: 1_000, told: /^$/ },
    'that sends empty lines and no further request': {
      sent: `${post('ok')}\r\n`,
      answered: /ok$/,
      afterMs: 75_000,
      told: /200 OK[\s\S]*ok$/,
    },
    'whose head does not end': { sent: 'GET / HTTP/1.1\r\nhost:', afterMs: 1_000, told: /400[\s\S]*too-slow$/ },
    'whose body does not end': {
      sent: 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc',
      afterMs: 5_000,
      told: /400[\s\S]*too-slow$/,
    },
    'that sends no further request': {
      sent: post('ok'),
      answered: /ok$/,
      afterMs: 75_000,
      told: /200 OK[\s\S]*ok$/,
    },
    'whose refused body does not end': {
      sent: 'POST /refused HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc',
      answered: /refused$/,
      afterMs: 5_000,
      told: /401 Unauthorized[\s\S]*refused$/,
    },
  }
  for (const [what, { sent, afterMs, told, answered = /^$/ }] of Object.entries(states)) {
    test(`closes the connection of a client ${what} when its time is over, and not sooner`, async () => {
      const clock = new ManualClock()
      const handler: Handler = (request, response) => (request.target === '/refused' ? refuse : echo)(request, response)
      await using server = await serving(handler, { clock })
      const client = await server.connect()
      client.send(sent)
      await until(() => server.connections().some((socket) => socket.bytesRead === sent.length))
      await until(() => answered.test(client.text()))
      clock.advance(afterMs - 200)
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(client.hasEnded(), false)
      clock.advance(300)
      assert.match(await client.ended(), told)
    })
  }

  test('gives a request its whole time, however long its connection had none', async () => {
    const clock = new ManualClock()
    await using server = await serving(echo, { clock })
    const client = await server.connect()
    client.send(post('one'))
    await client.received(/one$/)
    clock.advance(60_000)
    const bytesRead = () => server.connections()[0]?.bytesRead
    const before = post('one').length
    client.send(post('two').slice(0, 20))
    await until(() => bytesRead() === before + 20)
    clock.advance(900)
    client.send(post('two').slice(20))
    await client.received(/two$/)
  })

  test('is not kept waiting by empty lines, however many come and however slowly', async () => {
    const clock = new ManualClock()
    await using server = await serving(echo, { clock })
    const slow = await server.connect()
    for (let sent = 1; sent <= 5; sent++) {
      clock.advance(190)
      slow.send('\r\n')
      await until(() => server.connections()[0]?.bytesRead === 2 * sent)
    }
    clock.advance(190)
    assert.equal(await slow.ended(), '')
    const many = await server.connect()
    many.send('\r\n'.repeat(9))
    assert.match(await many.ended(), /400 Bad Request[\s\S]*malformed$/)
  })

  test('leaves a request alone that is being answered, however long that takes', async () => {
    const clock = new ManualClock()
    const answer = Promise.withResolvers<void>()
    await using server = await serving(
      async (request, response) => {
        await answer.promise
        echo(request, response)
      },
      { clock },
    )
    const client = await server.connect()
    client.send(post('ok'))
    await until(() => server.requests() === 1)
    clock.advance(3_600_000)
    answer.resolve()
    await client.received(/ok$/)
  })

  test('lets requests end when it is drained, tells their clients not to come again, and takes no new ones', async () => {
    const clock = new ManualClock()
    const answer = Promise.withResolvers<void>()
    await using server = await serving(async (request, response) => {
      await answer.promise
      echo(request, response)
    })
    const idle = await server.connect()
    const busy = await server.connect()
    busy.send(post('ok'))
    await until(() => server.requests() === 1)
    const drained = new ServingTime(server.server).drain({ clock, timeoutMs: 10_000 })
    assert.equal(await idle.ended(), '')
    answer.resolve()
    assert.match(await busy.ended(), /connection: close\r\n[\s\S]*ok$/)
    await until(() => {
      clock.advance(50)
      return server.connections().length === 0
    })
    await drained
    await assert.rejects(server.connect())
  })

  test('cuts requests that do not end within the time for draining', async () => {
    const clock = new ManualClock()
    const gone = Promise.withResolvers<void>()
    await using server = await serving((_request, response) => response.onGone(gone.resolve))
    const client = await server.connect()
    client.send(post('ok'))
    await until(() => server.requests() === 1)
    const drained = new ServingTime(server.server).drain({ clock, timeoutMs: 10_000 })
    clock.advance(9_000)
    assert.equal(client.hasEnded(), false)
    await until(() => {
      clock.advance(50)
      return client.hasEnded()
    })
    await Promise.all([drained, gone.promise])
  })
})

const echo: Handler = async (request, response) => {
  const body = await request.body({ bytesMax: 100_000_000 })
  if (!Buffer.isBuffer(body)) return
  response.start(200, [], { bodyLength: body.length })
  response.end(body)
}

const refuse: Handler = (_request, response) => {
  response.start(401, [], { bodyLength: 7 })
  response.end(Buffer.from('refused'))
}

/** Comes in two parts, each more than the system takes from the server, and is over before the client has read them. */
function longAnswer(answers: InboundResponse[]): Handler {
  return async (_request, response) => {
    answers.push(response)
    response.start(200, [], { bodyLength: null })
    for (const size of [12_000_000, 12_000_000]) {
      response.write(Buffer.alloc(size))
      await new Promise((resolve) => setImmediate(resolve))
    }
    response.end()
  }
}

function post(body: string): string {
  return `POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n${body}`
}

async function serving(onRequest: Handler, { clock = new ManualClock() }: Partial<InboundServerOptions> = {}) {
  let requests = 0
  const sockets = new Set<Socket>()
  const server = new InboundServer({
    onRequest: (request, response) => {
      requests += 1
      onRequest(request, response)
    },
    answerTo: (problem) => ({ status: 400, headers: [], body: problem }),
    clock,
    headTimeoutMs: 1_000,
    requestTimeoutMs: 5_000,
    keepAliveMs: 75_000,
    stallTimeoutMs,
    checkEveryMs: 100,
  })
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const clients = new Set<Socket>()
  return {
    server,
    requests: () => requests,
    /** The server's ends. */
    connections: () => [...sockets],
    async connect({ allowHalfOpen = false } = {}) {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen })
      clients.add(socket)
      await once(socket, 'connect')
      await until(() => sockets.size > 0)
      return clientOf(socket)
    },
    async [Symbol.asyncDispose]() {
      for (const socket of clients) socket.destroy()
      server.closeAllConnections()
      if (server.listening) await new Promise((resolve) => server.close(resolve))
    },
  }
}

function clientOf(socket: Socket) {
  let text = ''
  let hasEnded = false
  socket.setEncoding('latin1')
  socket.on('data', (part: string) => {
    text += part
  })
  socket.on('error', () => {})
  for (const event of ['end', 'close']) {
    socket.on(event, () => {
      hasEnded = true
    })
  }
  return {
    socket,
    send: (wire: string) => void socket.write(wire, 'latin1'),
    hasEnded: () => hasEnded,
    text: () => text,
    /** All that has come, once it matches and is not shorter than `lengthMin`. */
    received: (pattern: RegExp, lengthMin = 0) =>
      until(() => text.length >= lengthMin && pattern.test(text.slice(-100_000)) && text),
    /** All that came, once the server has closed the connection. */
    ended: async () => {
      await until(() => hasEnded)
      return text
    },
  }
}
