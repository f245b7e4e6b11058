import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { createBootstrapWorkspace } from '../../src/management/workspaces.ts'
import { type Management, type Page, startManagement } from '../support/management-client.ts'

interface Workspace {
  id: string
  name: string
  onboarded: boolean
  org_prefixes: string[]
  key_prefix: string
  register_public_key: string | null
  created_at: string
  api_key?: string
}

const path = '/v1/operator/workspaces'

describe('operator routes', () => {
  let management: Management

  before(async () => {
    management = await startManagement()
  })
  after(() => management[Symbol.asyncDispose]())

  const create = (fields: Record<string, unknown>) => management.operator.ok<Workspace>(`POST ${path}`, fields)

  test('a new workspace has the defaults of the contract, and a full-access key that is shown once', async () => {
    const { api_key, ...workspace } = await create({ name: 'Acme' })
    assert.deepEqual(workspace, {
      id: workspace.id,
      name: 'Acme',
      onboarded: true,
      org_prefixes: [],
      key_prefix: 'tk_',
      register_public_key: null,
      created_at: workspace.created_at,
    })
    assert.match(workspace.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.match(api_key ?? '', /^[\w-]+\.[\w-]{43,}$/)
    await management.caller(api_key ?? '').ok('GET /v1/gateway/groups')
    assert.deepEqual(await management.operator.ok(`GET ${path}/${workspace.id}`), workspace)
  })

  test('the list holds every workspace, page by page, without keys', async () => {
    const first = await create({ name: 'first listed' })
    const second = await create({ name: 'second listed' })
    const { items } = await management.operator.ok<Page<Workspace>>(`GET ${path}?limit=1000`)
    const names = items.map(({ name }) => name)
    assert.deepEqual(names.slice(-2), [first.name, second.name])
    assert.ok(items.every((item) => item.api_key === undefined))
    const page = await management.operator.ok<Page<Workspace>>(`GET ${path}?limit=1`)
    assert.equal(page.items.length, 1)
    assert.ok(page.pagination.has_more)
  })

  test('what is not a valid field is a 400 that names it', async () => {
    const fields: [string, Record<string, unknown>][] = [
      ['name', { name: '' }],
      ['name', { name: 'x'.repeat(256) }],
      ['name', {}],
      ['onboarded', { name: 'a', onboarded: 'yes' }],
      ['org_prefixes.0', { name: 'a', org_prefixes: ['a/b'] }],
      ['org_prefixes.0', { name: 'a', org_prefixes: ['a b'] }],
      ['org_prefixes.0', { name: 'a', org_prefixes: ['..'] }],
      ['org_prefixes.0', { name: 'a', org_prefixes: [''] }],
      ['org_prefixes', { name: 'a', org_prefixes: ['*', 'a'] }],
      ['org_prefixes.1', { name: 'a', org_prefixes: ['same', 'same'] }],
      ['org_prefixes', { name: 'a', org_prefixes: 'a' }],
      ['key_prefix', { name: 'a', key_prefix: 'a.b' }],
      ['key_prefix', { name: 'a', key_prefix: 'a b' }],
      ['register_public_key', { name: 'a', register_public_key: 'not base64' }],
      ['register_public_key', { name: 'a', register_public_key: Buffer.alloc(31).toString('base64') }],
      ['register_public_key', { name: 'a', register_public_key: Buffer.alloc(33).toString('base64') }],
      ['api_key', { name: 'a', api_key: 'mine' }],
    ]
    const { id } = await create({ name: 'to be changed' })
    for (const [field, body] of fields) {
      await management.operator.invalid(field, `POST ${path}`, body)
      if (body['name'] === 'a') await management.operator.invalid(field, `PATCH ${path}/${id}`, body)
    }
  })

  test('a prefix belongs to one workspace at a time', async () => {
    const owner = await create({ name: 'owner', org_prefixes: ['shared', 'owned'] })
    const other = await create({ name: 'other', org_prefixes: ['others'] })
    await management.operator.invalid('org_prefixes.1', `POST ${path}`, { name: 'x', org_prefixes: ['new', 'owned'] })
    await management.operator.invalid('org_prefixes.0', `PATCH ${path}/${other.id}`, { org_prefixes: ['owned'] })
    await management.operator.ok(`PATCH ${path}/${owner.id}`, { org_prefixes: ['owned'] })
    await management.operator.ok(`PATCH ${path}/${other.id}`, { org_prefixes: ['others', 'shared'] })
    await create({ name: 'any', org_prefixes: ['*'] })
    await create({ name: 'any too', org_prefixes: ['*'] })
  })

  test('of two workspaces that ask for one prefix at the same moment, one gets it', async () => {
    const answers = await Promise.all(
      ['one', 'two', 'three'].map((name) =>
        management.operator.call(`POST ${path}`, { name, org_prefixes: ['contested'] }),
      ),
    )
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400, 400])
  })

  test('a change holds at once, for the workspace and in the answer', async () => {
    const publicKey = Buffer.alloc(32, 1).toString('base64')
    const { id, api_key = '', ...created } = await create({ name: 'before' })
    const lab = management.caller(api_key)
    management.changes.length = 0
    const changed = await management.operator.ok(`PATCH ${path}/${id}`, {
      name: 'after',
      onboarded: false,
      register_public_key: publicKey,
    })
    assert.deepEqual(changed, {
      ...created,
      id,
      name: 'after',
      onboarded: false,
      register_public_key: publicKey,
    })
    assert.deepEqual(management.changes, [{ kind: 'workspace', workspaceId: id }])
    await lab.refused(403, 'GET /v1/gateway/groups')
    await management.operator.ok(`PATCH ${path}/${id}`, { onboarded: true, register_public_key: null })
    await lab.ok('GET /v1/gateway/groups')
    assert.deepEqual(await management.operator.ok(`PATCH ${path}/${id}`, {}), { ...created, id, name: 'after' })
  })

  test('key_prefix begins every federated key', async () => {
    const { api_key = '' } = await create({ name: 'acme', key_prefix: 'acme-live_' })
    const lab = management.caller(api_key)
    const { id } = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: 'a' },
      models: [{ slug: 'a/b' }],
      hierarchy: {},
    })
    const minted = await lab.ok<{ api_key: string; prefix: string }>(`POST /v1/gateway/groups/${id}/api_keys`)
    assert.match(minted.api_key, /^acme-live_/)
    assert.match(minted.prefix, /^acme-live_/)
  })

  test('a deleted workspace is gone with all that it owned, and its keys with it', async () => {
    const { id, api_key = '' } = await create({ name: 'doomed', org_prefixes: ['doomed'] })
    const lab = management.caller(api_key)
    await lab.ok('POST /v1/secrets', { name: 'a', value: 'b' })
    const group = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: 'a' },
      models: [{ slug: 'doomed/b' }],
      hierarchy: {},
    })
    await lab.ok(`POST /v1/gateway/groups/${group.id}/api_keys`)
    management.changes.length = 0
    const tombstone = await management.operator.ok<{ id: string; name: string }>(`DELETE ${path}/${id}`)
    assert.deepEqual([tombstone.id, tombstone.name], [id, 'doomed'])
    assert.deepEqual(management.changes, [{ kind: 'workspace', workspaceId: id }])
    await lab.refused(401, 'GET /v1/models')
    for (const method of ['GET', 'DELETE']) await management.operator.refused(404, `${method} ${path}/${id}`)
    await management.operator.refused(404, `PATCH ${path}/${id}`, {})
    for (const table of ['secrets', 'groups', 'federated_keys', 'workspace_keys'] as const) {
      const rows = await management.database.queries
        .selectFrom(table)
        .select('id')
        .where('workspace_id', '=', id)
        .execute()
      assert.deepEqual(rows, [], table)
    }
    await create({ name: 'heir', org_prefixes: ['doomed'] })
  })
})

test('an empty database gets one workspace for any prefix, with the key that was given', async () => {
  await using management = await startManagement()
  const key = 'given.0123456789abcdef0123456789abcdef'
  const { generatedKey } = await createBootstrapWorkspace(management.database, { key, clock: systemClock })
  assert.equal(generatedKey, null)
  await management.caller(key).ok('GET /v1/gateway/groups')
  const { items } = await management.operator.ok<Page<Workspace>>(`GET ${path}`)
  assert.deepEqual(
    items.map(({ name, org_prefixes, onboarded }) => ({ name, org_prefixes, onboarded })),
    [{ name: 'default', org_prefixes: ['*'], onboarded: true }],
  )
})

test('the first workspace is made once: its key is told at the first start and never again', async () => {
  await using management = await startManagement()
  const first = await createBootstrapWorkspace(management.database, { key: null, clock: systemClock })
  await management.caller(first.generatedKey).ok('GET /v1/gateway/groups')
  const second = await createBootstrapWorkspace(management.database, { key: 'another.key', clock: systemClock })
  assert.equal(second.generatedKey, null)
  await management.caller('another.key').refused(401, 'GET /v1/models')
  const { items } = await management.operator.ok<Page<Workspace>>(`GET ${path}`)
  assert.equal(items.length, 1)
})
