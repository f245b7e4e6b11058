import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { tollgate, tollgateAtTerminal } from '../support/tollgate-command.ts'

describe('the tollgate command', () => {
  const folder = temporaryFolder()
  let gateway: Gateway
  const settings = { HOME: folder.path }
  const run = (...words: string[]) => tollgate(words, { settings })

  before(async () => {
    gateway = await startGateway()
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    folder[Symbol.dispose]()
  })

  const login = (key: string) =>
    tollgate(['login', '--url', gateway.management, '--with-api-key'], { settings, input: `${key}\n` })

  test('is a file that can be run as it is checked out', () => {
    const root = join(import.meta.dirname, '../..')
    const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    const command = join(root, bin.tollgate)
    assert.equal(statSync(command).mode & 0o111, 0o111)
    assert.match(readFileSync(command, 'utf8'), /^#!\/usr\/bin\/env node\n/)
  })

  test('without a profile a command says how to get one', async () => {
    const { code, stderr } = await run('whoami')
    assert.equal(code, 1)
    assert.match(stderr, /tollgate login/)
  })

  test('login reads the key from standard input, tries it, and keeps it where only its owner can read it', async () => {
    const refused = await login('wk_x.0123456789abcdef0123456789abcdef')
    assert.equal(refused.code, 3)
    const { code, stderr, stdout } = await login(gateway.workspaceKey)
    assert.equal(code, 0, stderr)
    assert.ok(!`${stdout}${stderr}`.includes(gateway.workspaceKey))
    const path = join(folder.path, '.config/tollgate/config.json')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { url: gateway.management, api_key: gateway.workspaceKey })
    assert.equal((await run('whoami')).code, 0)
  })

  test('a created key stands alone on standard output, the warning on standard error', async () => {
    const { code, stdout, stderr } = await run('api-key', 'create', '--type', 'WORKSPACE_INVOKE', '--name', 'ci')
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^wk_[0-9a-f]+\.\S+\n$/)
    assert.match(stderr, /not shown again/)
    const prefix = stdout.split('.')[0] ?? ''

    assert.match(
      (await run('api-key', 'list')).stdout,
      new RegExp(`^PREFIX[\\s\\S]*\\n${prefix} +ci +WORKSPACE_INVOKE`, 'm'),
    )
    assert.equal((await run('api-key', 'rename', prefix, 'renamed')).code, 0)
    const listed: { prefix: string; name: string }[] = JSON.parse((await run('api-key', 'list', '-o', 'json')).stdout)
    assert.equal(listed.find((key) => key.prefix === prefix)?.name, 'renamed')
    assert.equal((await run('api-key', 'delete', prefix)).code, 0)
    assert.equal((await run('api-key', 'delete', prefix)).code, 4)
  })

  test('teams are created, listed and deleted', async () => {
    const created = await run('team', 'create', 'research', '-o', 'json')
    const [team]: { id: string }[] = JSON.parse(created.stdout)
    assert.match((await run('team', 'list')).stdout, /research/)
    const key = await run('api-key', 'create', '--type', 'WORKSPACE_INVOKE', '--team', String(team?.id))
    assert.equal(key.code, 0, key.stderr)
    assert.equal((await run('team', 'delete', String(team?.id))).code, 0)
  })

  test('exit codes tell what went wrong', async () => {
    assert.equal((await run('api-key', 'create')).code, 2)
    assert.equal((await run('api-key', 'create', '--type', 'NONSENSE')).code, 2)
    assert.equal((await run('no-such-command')).code, 2)
    assert.equal((await run('--help')).code, 0)
    assert.equal((await run('api-key', 'rename', 'wk_nobody', 'name')).code, 4)
    assert.equal((await run('api-key', 'create', '--type', 'WORKSPACE_INVOKE', '--name', 'Not Valid')).code, 5)
  })

  test('without a terminal, login says how to be given the key', async () => {
    const { code, stderr } = await run('login', '--url', gateway.management)
    assert.equal(code, 2)
    assert.match(stderr, /--with-api-key/)
  })

  for (const [key, name] of [
    ['\x03', 'Ctrl+C'],
    ['\x04', 'Ctrl+D'],
  ] as const) {
    test(`login ends with a sentence when the person gives up (${name})`, async () => {
      const { code, screen } = await tollgateAtTerminal(['login'], { settings, key })
      assert.equal(code, 1)
      assert.match(screen, /\r\ntollgate: You have not logged in; nothing was kept\.\r\n$/)
    })
  }

  test('logout forgets the key', async () => {
    assert.equal((await run('logout')).code, 0)
    assert.equal((await run('whoami')).code, 1)
  })
})

test('after `master-key rotate` stored secrets work, under another key', async () => {
  using folder = temporaryFolder()
  const dataDir = join(folder.path, 'data')
  await using upstream = await startMockUpstream()
  const mint = async ({ management, workspaceKey }: Gateway, name = 'repeated') => {
    const response = await fetch(`${management}/v1/api_keys`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${workspaceKey}`,
        'content-type': 'application/json',
        'idempotency-key': 'one',
      },
      body: JSON.stringify({ type: 'WORKSPACE_INVOKE', name }),
    })
    return { status: response.status, body: await response.json() }
  }
  let key = ''
  let minted = {}
  {
    await using gateway = await startGateway({ dataDir })
    const secret = await gateway.manage<{ id: string }>('POST', '/v1/secrets', { name: 'upstream', value: 'sk-lab' })
    await gateway.manage('POST', '/v1/gateway/endpoints', {
      slug: defaultSlug,
      targets: [{ provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'm', secret_id: secret.id }],
    })
    key = (await gateway.customer({})).key
    minted = await mint(gateway)
    const running = await tollgate(['master-key', 'rotate', '--data-dir', dataDir])
    assert.equal(running.code, 1, 'a running server keeps its key')
  }
  {
    await using _workers = await startGateway({ dataDir, settings: { TOLLGATE_WORKERS: '2' } })
    const running = await tollgate(['master-key', 'rotate', '--data-dir', dataDir])
    assert.equal(running.code, 1, 'so does one with several processes')
  }
  const before = readFileSync(join(dataDir, 'master-key'), 'utf8')
  const { code, stderr } = await tollgate(['master-key', 'rotate', '--data-dir', dataDir])
  assert.equal(code, 0, stderr)
  assert.notEqual(readFileSync(join(dataDir, 'master-key'), 'utf8'), before)

  await using gateway = await startGateway({ dataDir })
  const response = await gateway.infer(key, chat())
  assert.equal(response.status, 200)
  assert.equal(upstream.requests.at(-1)?.headers.authorization, 'Bearer sk-lab')
  assert.deepEqual(await mint(gateway), minted)
  assert.equal((await mint(gateway, 'other')).status, 409)
})
