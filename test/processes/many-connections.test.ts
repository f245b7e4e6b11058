import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { Client } from 'undici'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { readEvents, readMetrics, setUp, slug } from '../support/record-under-load.ts'
import { type ServedProcess, startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

const openFilesMax = 200
/** Three eighths of them (`connection-bound.ts`). */
const connectionsMax = 75

test('strangers who take all connections leave files enough to serve and record who is connected', async () => {
  using folder = temporaryFolder()
  // Each request needs a connection to upstream of its own.
  await using upstream = await startMockUpstream({ script: { headers: { connection: 'close' } } })
  await using server = await startServed(folder.path, {}, { openFilesMax })
  const { key } = await setUp(server, { upstream, webhookUrl: 'http://127.0.0.1:9/' })
  await using clients = new AsyncDisposableStack()
  const customer = clients.adopt(new Client(server.inference), (client) => client.destroy())
  const call = async () => {
    const { statusCode, headers, body } = await customer.request({
      method: 'POST',
      path: '/v1/chat/completions',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: slug, messages: [{ role: 'user', content: 'Hello' }] }),
    })
    assert.equal(statusCode, 200, await body.text())
    return headers['x-request-id']
  }
  const served = [await call()]

  {
    await using strangers = await connectStrangers(server, openFilesMax)
    await until(async () => (await connectionsRefused(server)) === openFilesMax - (connectionsMax - 1))
    await until(() => strangers.connected() === connectionsMax - 1)
    for (let calls = 0; calls < 20; calls++) served.push(await call())
  }
  const newcomer = await until(() => fetch(`${server.inference}/health`).catch(() => null))
  assert.equal(newcomer.status, 200)
  assert.deepEqual(
    (await readEvents(server)).map(({ requestId }) => requestId),
    served,
  )
})

interface Strangers extends AsyncDisposable {
  /** How many of them the server has not turned away. */
  connected(): number
}

/** Opens so many connections and says nothing on them. */
async function connectStrangers({ inference }: ServedProcess, count: number): Promise<Strangers> {
  const port = Number(new URL(inference).port)
  const sockets = Array.from({ length: count }, () => connect(port, '127.0.0.1').on('error', () => {}))
  await Promise.all(sockets.map((socket) => once(socket, 'connect')))
  return {
    connected: () => sockets.filter((socket) => !socket.destroyed).length,
    async [Symbol.asyncDispose]() {
      await Promise.all(
        sockets.map((socket) => {
          const closed = socket.closed ? null : once(socket, 'close')
          socket.destroy()
          return closed
        }),
      )
    },
  }
}

async function connectionsRefused(server: ServedProcess): Promise<number> {
  return Number(/^tollgate_connections_refused_total (\d+)$/m.exec(await readMetrics(server))?.[1])
}
