import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { call, readEvents, setUp, slug } from '../support/record-under-load.ts'
import { type ServedProcess, startServed } from '../support/served-process.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'

const skip = process.platform !== 'linux' && 'needs prlimit and /proc'

describe('a server whose journal cannot be written', { skip }, () => {
  for (const workers of ['1', '2']) {
    test(`lets upstream work for nobody and is not ready, until there is room again (workers: ${workers})`, async () => {
      using folder = temporaryFolder()
      await using upstream = await startMockUpstream()
      await using server = await startServed(folder.path, { TOLLGATE_WORKERS: workers })
      const { key } = await setUp(server, { upstream, webhookUrl: 'http://127.0.0.1:9/' })
      const served = [await call(server, key, { stream: false })]
      assert.deepEqual(await readiness(server), { status: 'ready', database: 'reachable', journal: 'writable' })

      limitFileBytes(server, '1')
      // Each process notices with the first request that it serves.
      await until(async () => {
        const asked = upstream.requests.length
        for (let calls = 0; calls < 10; calls++) assert.equal(await call(server, key, { stream: true }), null)
        return upstream.requests.length === asked
      })
      const refusal = await fetch(`${server.inference}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: slug, messages: [{ role: 'user', content: 'Hello' }] }),
      })
      assert.equal(refusal.status, 503)
      assert.equal(refusal.headers.get('retry-after'), '1')
      assert.deepEqual(await readiness(server), { status: 'not ready', database: 'reachable', journal: 'not writable' })

      limitFileBytes(server, 'unlimited')
      await until(async () => (await readiness(server)).status === 'ready')
      served.push(await call(server, key, { stream: true }))
      assert.deepEqual(
        (await readEvents(server)).map(({ requestId }) => requestId),
        served,
      )
    })
  }
})

async function readiness({ management }: ServedProcess): Promise<Record<string, string>> {
  const answer = await fetch(`${management}/health/ready`)
  const said = (await answer.json()) as Record<string, string>
  assert.equal(answer.status, said['status'] === 'ready' ? 200 : 503)
  return said
}

/** The kernel refuses the server and its workers writes beyond this size of a file, as a full disk does. */
function limitFileBytes({ pid }: ServedProcess, most: '1' | 'unlimited'): void {
  const workers = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
  for (const each of [pid, ...workers]) execFileSync('prlimit', ['--pid', String(each), `--fsize=${most}:`])
}
