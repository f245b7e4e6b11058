import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

for (const [what, bytes] of [
  ['nothing', ''],
  ['half a head', 'GET /health/live HTTP/1.1\r\nhost: a\r\n'],
  [
    'half a body',
    'POST /v1/secrets HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{',
  ],
] as const) {
  test(`who has sent ${what} to the management listener does not keep the server from stopping`, async () => {
    using folder = temporaryFolder()
    await using server = await startServed(folder.path, { TOLLGATE_SHUTDOWN_TIMEOUT_MS: '500' })
    const client = connect(Number(new URL(server.management).port), '127.0.0.1')
    client.on('error', () => {})
    await once(client, 'connect')
    client.write(bytes)
    // Answered on a connection that came later: what the first one has sent has been read.
    await (await fetch(`${server.management}/health/live`)).text()
    assert.equal(await server.stop(), 0)
    client.destroy()
  })
}
