import assert from 'node:assert/strict'
import type { lookup } from 'node:dns'
import { readFileSync } from 'node:fs'
import { createServer as createTlsServer, type Server } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, isIP, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { systemClock } from '../../src/clock.ts'
import { openPostbox, type PostAnswer, type PostboxOptions } from '../../src/outbound.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'
import { startReceiver, status } from './receiver.ts'

const body = Buffer.from('{"type":"API_BILLING_USAGE","data":{"events":[]}}')
const refused: PostAnswer = { answered: false, failure: 'forbidden-address' }

async function post(url: string, options: Partial<PostboxOptions> = {}): Promise<PostAnswer> {
  await using postbox = openPostbox({ clock: systemClock, ...options })
  return await postbox.post({ url, headers: { 'content-type': 'application/json' }, body })
}

/** A name service that gives every name these addresses, and counts how often it is asked. */
function names(...addresses: string[]): { resolve: typeof lookup; asked: () => number } {
  let asked = 0
  const answers = addresses.map((address) => ({ address, family: isIP(address) }))
  const resolve = (_name: string, _options: object, callback: (error: null, found: typeof answers) => void) => {
    asked += 1
    callback(null, answers)
  }
  return { resolve: resolve as typeof lookup, asked: () => asked }
}

test('http reaches this machine, by address and by name', async () => {
  await using receiver = await startReceiver()
  const { port } = new URL(receiver.url)
  for (const host of ['127.0.0.1', 'localhost']) {
    assert.deepEqual(await post(`http://${host}:${port}/billing?from=tollgate`), {
      answered: true,
      status: 200,
      retryAfter: null,
    })
  }
  assert.deepEqual(
    receiver.posts.map(({ path }) => path),
    ['/billing?from=tollgate', '/billing?from=tollgate'],
  )
})

test('http to a name goes to this machine or nowhere', async () => {
  await using receiver = await startReceiver()
  const { port } = new URL(receiver.url)
  const url = `http://localhost:${port}/`
  assert.equal((await post(url, names('127.0.0.1'))).answered, true)
  for (const addresses of [
    ['10.0.0.5'],
    ['93.184.216.34'],
    ['0.0.0.0'],
    ['127.0.0.1', '10.0.0.5'],
    ['::ffff:10.0.0.5'],
  ]) {
    assert.deepEqual(await post(url, names(...addresses)), refused, addresses.join())
  }
  assert.equal(receiver.posts.length, 1)
})

test('http to an address that is not loopback is refused, also to the one that stands for all of this machine', async () => {
  await using receiver = await startReceiver()
  const { port } = new URL(receiver.url)
  for (const host of ['0.0.0.0', '[::]', '10.0.0.5', '[::ffff:10.0.0.5]', '169.254.169.254']) {
    assert.deepEqual(await post(`http://${host}:${port}/`), refused, host)
  }
  assert.equal(receiver.posts.length, 0)
})

test('https to a link-local or metadata address is refused, by address and by any name that resolves to one', async () => {
  const forbidden = [
    '169.254.169.254',
    '169.254.1.1',
    '100.100.100.200',
    'fe80::1',
    'fd00:ec2::254',
    '::ffff:169.254.169.254',
    '::ffff:0:169.254.169.254',
    '64:ff9b:1::169.254.169.254',
  ]
  for (const address of forbidden) {
    const host = isIP(address) === 6 ? `[${address}]` : address
    assert.deepEqual(await post(`https://${host}/`), refused, address)
    assert.deepEqual(await post('https://billing.example.test/', names(address)), refused, address)
    assert.deepEqual(await post('https://billing.example.test/', names('127.0.0.1', address)), refused, address)
  }
})

test('the address that was judged is the one that is connected to, for every connection', async () => {
  await using receiver = await startReceiver(status(200, { connection: 'close' }))
  const { port } = new URL(receiver.url)
  const answers = [names('127.0.0.1'), names('169.254.169.254'), names('127.0.0.1')]
  const resolve = ((...given: Parameters<typeof lookup>) => answers.shift()?.resolve(...given)) as typeof lookup
  await using postbox = openPostbox({ clock: systemClock, resolve })
  const send = () => postbox.post({ url: `http://localhost:${port}/`, headers: {}, body })
  assert.equal((await send()).answered, true)
  assert.deepEqual(await send(), refused)
  assert.equal((await send()).answered, true)
  assert.equal(answers.length, 0)
  assert.equal(receiver.posts.length, 2)
})

test('a redirect is an answer, and is not followed', async () => {
  await using target = await startReceiver()
  for (const code of [301, 302, 303, 307, 308]) {
    await using receiver = await startReceiver(status(code, { location: target.url }))
    assert.deepEqual(await post(receiver.url), { answered: true, status: code, retryAfter: null })
  }
  assert.equal(target.posts.length, 0)
})

test('Retry-After comes with the answer', async () => {
  await using receiver = await startReceiver(status(503, { 'retry-after': '17' }))
  assert.deepEqual(await post(receiver.url), { answered: true, status: 503, retryAfter: '17' })
})

test('a receiver that is not there is unreachable', async () => {
  const receiver = await startReceiver()
  await receiver[Symbol.asyncDispose]()
  assert.deepEqual(await post(receiver.url), { answered: false, failure: 'unreachable' })
})

test('an answer that never ends is given up after 10 seconds, whatever has come of it', async () => {
  const clock = new ManualClock()
  await using receiver = await startReceiver((_post, response) => {
    response.writeHead(200).write('so far so good')
  })
  const answer = post(receiver.url, { clock })
  await until(() => receiver.posts.length === 1)
  clock.advance(9_999)
  assert.equal(clock.nextTimerMs(), 1)
  clock.advance(1)
  assert.deepEqual(await answer, { answered: false, failure: 'timeout' })
})

test('a receiver that accepts a connection and says nothing more is given up after 10 seconds', async () => {
  const clock = new ManualClock()
  await using postbox = openPostbox({ clock })
  const connections: Socket[] = []
  const mute = createTcpServer((socket) => connections.push(socket.on('error', () => {})))
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
  const url = `https://127.0.0.1:${(mute.address() as AddressInfo).port}/`
  const answer = postbox.post({ url, headers: {}, body })
  await until(() => connections.length === 1)
  clock.advance(10_000)
  assert.deepEqual(await answer, { answered: false, failure: 'timeout' })
  for (const socket of connections) socket.destroy()
  mute.close()
})

test('of a long answer no more is read than 64 KiB, and its status counts', async () => {
  const chunk = Buffer.alloc(64 * 1024, 'x')
  let written = 0
  let cut = false
  await using receiver = await startReceiver((_post, response) => {
    response.on('close', () => {
      cut = true
    })
    response.writeHead(200)
    const pump = () => {
      while (!cut && response.write(chunk)) written += chunk.length
    }
    response.on('drain', pump)
    pump()
  })
  assert.deepEqual(await post(receiver.url), { answered: true, status: 200, retryAfter: null })
  await until(() => cut)
  assert.ok(written < 16 * 1024 * 1024, `${written} bytes were written`)
})

/** An https receiver on loopback, whose certificate is for `localhost` and `billing.example.test`. */
async function startTlsReceiver(): Promise<AsyncDisposable & { port: number }> {
  const read = (name: string) => readFileSync(join(import.meta.dirname, 'tls', name))
  const options = { key: read('localhost.key.pem'), cert: read('localhost.cert.pem') }
  const server: Server = createTlsServer(options, (incoming, response) => {
    incoming.resume().on('end', () => response.end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

test('https verifies the certificate, and the name in it', async (context) => {
  await using receiver = await startTlsReceiver()
  const trusted = getCACertificates('default')
  assert.deepEqual(await post(`https://localhost:${receiver.port}/`), { answered: false, failure: 'unreachable' })

  setDefaultCACertificates([...trusted, readFileSync(join(import.meta.dirname, 'tls', 'localhost.cert.pem'), 'utf8')])
  context.after(() => setDefaultCACertificates(trusted))
  assert.equal((await post(`https://localhost:${receiver.port}/`)).answered, true)
  assert.equal((await post(`https://billing.example.test:${receiver.port}/`, names('127.0.0.1'))).answered, true)
  const otherName = await post(`https://other.example.test:${receiver.port}/`, names('127.0.0.1'))
  assert.deepEqual(otherName, { answered: false, failure: 'unreachable' })
})
