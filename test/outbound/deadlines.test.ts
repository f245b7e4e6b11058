import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import type { OutboundCall } from '../../src/outbound/call.ts'
import { ConnectionPool } from '../../src/outbound/connection-pool.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'

const firstByteTimeoutMs = 8_000
const idleTimeoutMs = 2_000
/** So much later than they say are deadlines seen. */
const latenessMs = 1_000

describe('the deadlines of a call', () => {
  test('a server that goes on speaking is heard out, however long it takes', async () => {
    await using call = await startedCall()
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n')
    for (let sent = 1; sent <= 40; sent++) {
      call.server.write('x')
      await until(() => call.bytes === sent)
      call.clock.advance(idleTimeoutMs - 1)
    }
    assert.equal(call.error, null)
    assert.equal(call.hasEnded, true)
  })

  test('a server that never answers is given up after the time for the first byte', async () => {
    await using call = await startedCall()
    call.clock.advance(firstByteTimeoutMs - 1)
    assert.equal(call.error, null)
    call.clock.advance(1 + latenessMs)
    assert.match(String(call.error), /did not come in time/)
  })

  test('a server that falls silent within its answer is given up after the time for a pause', async () => {
    await using call = await startedCall()
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\nx')
    await until(() => call.bytes === 1)
    call.clock.advance(idleTimeoutMs - 1)
    assert.equal(call.error, null)
    call.clock.advance(1 + latenessMs)
    assert.match(String(call.error), /did not come in time/)
  })

  test('a server that goes on speaking when nobody waits for it any more is given up after 5 s', async () => {
    await using call = await startedCall()
    call.server.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
    call.call.endSoon()
    const speakFor = async (seconds: number) => {
      for (let second = 0; second < seconds; second++) {
        const before = call.bytes
        call.server.write('1\r\nx\r\n')
        await until(() => call.bytes > before || call.error !== null)
        call.clock.advance(1_000)
      }
    }
    await speakFor(5)
    assert.equal(call.error, null)
    await speakFor(1)
    assert.match(String(call.error), /did not come in time/)
    await until(() => call.server.destroyed)
  })

  test('the next call on its connection has time again', async () => {
    await using call = await startedCall()
    call.call.endSoon()
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=100\r\n\r\n')
    await until(() => call.hasEnded)
    const again = call.dispatch()
    await once(call.server, 'data')
    call.clock.advance(firstByteTimeoutMs - 1)
    assert.equal(again.error, null)
  })

  test('the time in which nobody reads is not the server’s', async () => {
    await using call = await startedCall()
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx')
    await until(() => call.bytes === 1)
    call.call.pause()
    call.clock.advance(10 * idleTimeoutMs + 100)
    call.call.resume()
    call.clock.advance(idleTimeoutMs - 1)
    assert.equal(call.error, null)
    call.server.write('x')
    await until(() => call.hasEnded)
  })

  test('a connection that carries no call is not held to them', async () => {
    await using call = await startedCall()
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=100\r\n\r\n')
    await until(() => call.hasEnded)
    call.clock.advance(5 * firstByteTimeoutMs)
    const again = call.dispatch()
    await once(call.server, 'data')
    call.clock.advance(firstByteTimeoutMs - 1)
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    await until(() => again.hasEnded)
  })
})

describe('a connection that became free', () => {
  test('is closed when its time is over, also where no request asks for one, and not sooner', async () => {
    await using call = await startedCall()
    const other = call.dispatch()
    const [second]: Socket[] = await once(call.listener, 'connection')
    assert.ok(second !== undefined)
    await once(second, 'data')
    second.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=100\r\n\r\n')
    call.server.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=21\r\n\r\n')
    await until(() => call.hasEnded && other.hasEnded)
    call.clock.advance(19_000)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(call.server.destroyed, false)
    call.clock.advance(1_000 + latenessMs)
    await until(() => call.server.destroyed)
    assert.equal(second.destroyed, false)
    call.clock.advance(40_000)
    await until(() => second.destroyed)
  })
})

/** A call that has arrived at a server of the test's, over a pool whose clock is the test's. */
async function startedCall() {
  const clock = new ManualClock()
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const pool = new ConnectionPool({
    connect: (_origin, callback) => {
      const socket = connect(port, '127.0.0.1', () => callback(null, socket))
    },
    clock,
    firstByteTimeoutMs,
    idleTimeoutMs,
  })
  const dispatch = () => {
    const heard: { bytes: number; hasEnded: boolean; error: Error | null } = { bytes: 0, hasEnded: false, error: null }
    const call: OutboundCall = pool.dispatch(
      { origin: `http://127.0.0.1:${port}`, path: '/', method: 'GET', headers: [], body: [] },
      {
        onHead: () => {},
        onData: (chunk) => {
          heard.bytes += chunk.length
        },
        onEnd: () => {
          heard.hasEnded = true
        },
        onError: (cause) => {
          heard.error = cause
        },
      },
    )
    return Object.assign(heard, { call })
  }
  const started = dispatch()
  const [accepted]: Socket[] = await once(server, 'connection')
  assert.ok(accepted !== undefined)
  await once(accepted, 'data')
  return Object.assign(started, {
    clock,
    dispatch,
    server: accepted,
    listener: server,
    [Symbol.asyncDispose]: async () => {
      pool.close()
      accepted.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  })
}
