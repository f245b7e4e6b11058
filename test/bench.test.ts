import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { startGateway } from '../bench/gateways.ts'
import { compile, type LoadResult, load, type Programs } from '../bench/load.ts'
import { measureAdded, measureCpu } from '../bench/measure.ts'
import { goFirst, mayGoFirst } from '../bench/priority.ts'
import { start } from '../bench/processes.ts'
import { report } from '../bench/report.ts'
import { freePort } from './support/free-port.ts'

/** The bench is no part of the product: where there is no compiler its tests are skipped, and say so; CI has one. */
const isMissing = ['gcc', 'nginx'].some((program) => spawnSync(program, ['-v']).status !== 0)
const skip = isMissing && process.env['CI'] !== 'true' && 'needs gcc and nginx, which are not installed'

describe('the benchmark', { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-test-'))
  let programs: Programs

  before(async () => {
    programs = await compile(folder)
  })
  after(() => rmSync(folder, { recursive: true }))

  test('measures nginx and Tollgate side by side', async () => {
    const upstreamPort = await freePort()
    await using _upstream = await start({
      program: programs.upstream,
      arguments: [String(upstreamPort)],
      port: upstreamPort,
    })
    const pace = { rounds: 1, warmUpSeconds: 0, seconds: 0.2 }
    const rig = { program: programs.load, folder, upstreamPort, toolPids: [], pace, say: () => {} }
    await using nginx = await startGateway.nginx({ upstreamPort, folder: join(folder, 'nginx') })
    await using tollgate = await startGateway.tollgate({ upstreamPort, folder: join(folder, 'tollgate') })

    const measured = [
      ...(await measureCpu(nginx, 'chunks', rig)),
      ...(await measureCpu(tollgate, 'refused', rig)),
      ...(await measureAdded(tollgate, { name: 'json', rate: 100 }, rig)),
    ]

    assert.deepEqual(
      measured.filter(({ what, value }) => what === 'requestsPerSecond' && !(value > 0)),
      [],
    )
    assert.match(report(measured, rig), /^\| CPU a request: stream of 50 chunks/m)
  })

  test('lets its tools go first, with what they start, and no longer than that', {
    skip: !mayGoFirst() && 'takes root, or CAP_SYS_NICE',
  }, () => {
    const policy = () => /SCHED_\w+/.exec(String(spawnSync('sh', ['-c', 'chrt --pid $$']).stdout))?.[0]

    {
      using _priority = goFirst([process.pid])
      assert.equal(policy(), 'SCHED_FIFO')
    }
    assert.equal(policy(), 'SCHED_OTHER')
    assert.throws(() => {
      using _priority = goFirst([process.pid])
      throw new Error('cut short')
    }, /cut short/)
    assert.equal(policy(), 'SCHED_OTHER')
  })

  const stream = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n'

  test('takes a whole stream for an answer', async () => {
    const { answered, answeredOtherwise, unanswered } = await loadAnswered(stream)
    assert.equal(answered > 0, true)
    assert.deepEqual({ answeredOtherwise, unanswered }, { answeredOtherwise: 0, unanswered: 0 })
  })

  const failures = {
    'another status': stream.replace('200', '500'),
    'a stream without its last frame': stream.replace('[DONE]', '{more}'),
    'bytes behind the end of an answer': `${stream}more`,
  }
  for (const [failure, answer] of Object.entries(failures)) {
    test(`takes ${failure} for a failure`, async () => {
      await assert.rejects(loadAnswered(answer), /did not answer every request/)
    })
  }

  test('takes a stream that is cut for a failure', async () => {
    await assert.rejects(loadAnswered(stream.slice(0, -5), { isCut: true }), /did not answer every request/)
  })

  /** What the load generator says of a server that answers every request with these bytes. */
  async function loadAnswered(answer: string, { isCut = false } = {}): Promise<LoadResult> {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', () => (isCut ? socket.end(answer) : socket.write(answer)))
    })
    const port = await freePort()
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const request = { path: '/', body: '{}', headers: [{ accept: '*/*' }], status: 200, end: 'data: [DONE]' }
    try {
      const pace = { connections: 2, rate: null, seconds: 0.1 }
      return await load({ ...request, ...pace, port }, { program: programs.load, folder })
    } finally {
      server.close()
    }
  }
})
