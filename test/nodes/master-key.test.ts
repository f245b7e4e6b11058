import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { chat, defaultSlug, startGateway } from '../support/gateway.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { tollgate } from '../support/tollgate-command.ts'

describe('the master key of nodes on one PostgreSQL', () => {
  let server: PostgresServer
  before(async () => {
    server = await startPostgres()
  })
  after(() => server[Symbol.asyncDispose]())

  test('is the same on all of them: a node with another one does not start, and says what to set', async () => {
    await server.create('shared')
    const settings = { TOLLGATE_DATABASE_URL: server.url('shared') }
    await using _node = await startGateway({ settings })
    await assert.rejects(startGateway({ settings }), {
      name: 'StartError',
      message: /encrypted under another master key\. Set TOLLGATE_MASTER_KEY to that one, the same on every node\.$/,
    })
  })

  test('is rotated when all nodes are stopped, and not while one of them serves', async () => {
    using folder = temporaryFolder()
    using elsewhere = temporaryFolder()
    await using upstream = await startMockUpstream()
    await server.create('rotated')
    const settings = { TOLLGATE_DATABASE_URL: server.url('rotated') }
    const rotate = () => tollgate(['master-key', 'rotate', '--data-dir', folder.path], { settings })
    let key = ''
    {
      await using node = await startGateway({ settings, dataDir: folder.path })
      const secret = await node.manage<{ id: string }>('POST', '/v1/secrets', { name: 'upstream', value: 'sk-lab' })
      const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'm' }
      const targets = [{ ...target, secret_id: secret.id }]
      await node.manage('POST', '/v1/gateway/endpoints', { slug: defaultSlug, targets })
      key = (await node.customer({})).key
    }
    const readKey = () => readFileSync(join(folder.path, 'master-key'), 'utf8').trim()
    const before = readKey()
    {
      await using _other = await startGateway({
        settings: { ...settings, TOLLGATE_MASTER_KEY: before },
        dataDir: elsewhere.path,
      })
      const refused = await rotate()
      assert.deepEqual(
        [refused.code, refused.stderr],
        [1, 'tollgate: A node serves from this database. Stop all nodes first.\n'],
      )
    }
    const { code, stderr } = await rotate()
    assert.equal(code, 0, stderr)
    assert.match(stderr, /^1 secrets .* Give every node that key\.$/m)
    assert.notEqual(readKey(), before)
    await assert.rejects(startGateway({ settings: { ...settings, TOLLGATE_MASTER_KEY: before } }), /another master key/)

    await using node = await startGateway({ settings, dataDir: folder.path })
    assert.equal((await node.infer(key, chat())).status, 200)
    assert.equal(upstream.requests.at(-1)?.headers.authorization, 'Bearer sk-lab')
  })
})
