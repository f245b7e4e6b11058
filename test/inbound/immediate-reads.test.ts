import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import { readImmediately } from '../../src/inbound/immediate-reads.ts'
import { until } from '../support/until.ts'

describe('reads that do not wait for a tick', () => {
  test('bring all bytes in their order and the end behind them, however often they are paused', async () => {
    await using pair = await connected()
    const sent = randomBytes(3_000_000)
    const taken: Buffer[] = []
    readImmediately(pair.accepted, (bytes) => {
      taken.push(bytes)
      if (taken.length % 3 !== 0) return
      pair.accepted.pause()
      setImmediate(() => pair.accepted.resume())
    })
    const ended = once(pair.accepted, 'end')
    pair.client.end(sent)
    await ended
    assert.ok(taken.length > 6, `came in ${taken.length} reads`)
    assert.ok(Buffer.concat(taken).equals(sent))
  })

  test('bring what waits before what comes', async () => {
    await using pair = await connected()
    let taken = ''
    readImmediately(pair.accepted, (bytes) => {
      taken += bytes
    })
    pair.accepted.pause()
    pair.client.write('waits, ')
    await until(() => pair.accepted.readableLength > 0)
    pair.accepted.resume()
    pair.accepted.push(Buffer.from('comes'))
    await until(() => taken.includes('comes'))
    assert.equal(taken, 'waits, comes')
  })

  test('hold the other side up while they are paused', async () => {
    await using pair = await connected()
    let length = 0
    readImmediately(pair.accepted, (bytes) => {
      length += bytes.length
    })
    pair.accepted.pause()
    pair.client.write(Buffer.alloc(64_000_000))
    await until(() => pair.accepted.readableLength >= pair.accepted.readableHighWaterMark)
    assert.equal(length, 0)
    assert.ok(pair.accepted.readableLength < 1_000_000, `${pair.accepted.readableLength} bytes wait`)
    pair.accepted.resume()
    await until(() => length === 64_000_000)
  })
})

/** Two ends of a connection. */
async function connected(): Promise<{ client: Socket; accepted: Socket } & AsyncDisposable> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = connect(port, '127.0.0.1')
  const [accepted] = await once(server, 'connection')
  return {
    client,
    accepted,
    async [Symbol.asyncDispose]() {
      client.destroy()
      accepted.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
