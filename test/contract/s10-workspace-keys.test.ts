import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { keyHash } from '../../src/access/api-key.ts'
import { workspaceKeyTypes } from '../../src/access/permissions.ts'
import { type Lab, type Management, type ManagementClient, startManagement } from '../support/management-client.ts'
import { keysOf, type ListedKey, mintFor } from '../support/workspace-keys.ts'

describe('workspace keys', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
  })
  after(() => management[Symbol.asyncDispose]())

  const mint = (caller: ManagementClient, body: object) => mintFor({ management, caller }, body)
  const modelOf = async (owner: Lab) =>
    (
      await owner.ok<{ id: string }>('POST /v1/models', {
        name: 'm',
        environments: [{ name: 'production', base_url: 'http://127.0.0.1:1/v1' }],
      })
    ).id

  test('a full-access key mints a key of every type, which works at once', async () => {
    lab = await management.lab()
    for (const type of workspaceKeyTypes) {
      const minted = await mint(lab, { type, name: 'a-key-1' })
      const { status } = await minted.call('GET /v1/api_keys')
      assert.equal(status, ['WORKSPACE_INVOKE', 'WORKSPACE_EXPORT_METRICS'].includes(type) ? 403 : 200, type)
    }
    assert.deepEqual(
      (await keysOf(lab)).map(({ type }) => type),
      ['WORKSPACE_MANAGE_ALL', ...workspaceKeyTypes],
    )
  })

  test('a key is shown once: lists show its prefix and what bounds it, and the database holds its hash alone', async () => {
    lab = await management.lab()
    const model = await modelOf(lab)
    const body = { type: 'WORKSPACE_INVOKE', name: 'for-ci', model_ids: [model], environments: ['production'] }
    const { key, prefix } = await mint(lab, body)
    assert.match(key, /^[\w-]+\.[\w-]{43,}$/)
    const listed = (await keysOf(lab)).find((candidate) => candidate.prefix === prefix)
    assert.deepEqual(listed, {
      prefix,
      ...body,
      team_name: null,
      owner: null,
      created_at: listed?.created_at,
      last_used_at: null,
    })
    const row = await management.database.queries
      .selectFrom('workspace_keys')
      .selectAll()
      .where('prefix', '=', prefix)
      .executeTakeFirstOrThrow()
    assert.equal(row.hash, keyHash(key))
    assert.doesNotMatch(JSON.stringify(row), new RegExp(key.slice(prefix.length + 1)))
  })

  test('names are lowercase letters, digits and hyphens', async () => {
    lab = await management.lab()
    const { prefix } = await mint(lab, { type: 'WORKSPACE_INVOKE' })
    for (const name of ['Upper', 'a b', 'a_b', 'é', '', 'a.b']) {
      await lab.invalid('name', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', name })
      await lab.invalid('name', `PATCH /v1/api_keys/${prefix}`, { name })
    }
    const renamed = await lab.ok<ListedKey>(`PATCH /v1/api_keys/${prefix}`, { name: 'web-2' })
    assert.equal(renamed.name, 'web-2')
    assert.equal((await keysOf(lab)).at(-1)?.name, 'web-2')
  })

  test('a revoked key is refused at once, leaves the list, and is a 404 ever after', async () => {
    lab = await management.lab()
    const minted = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL' })
    assert.deepEqual(await lab.ok(`DELETE /v1/api_keys/${minted.prefix}`), { prefix: minted.prefix })
    await minted.refused(401, 'GET /v1/models')
    assert.equal((await keysOf(lab)).length, 1)
    await lab.refused(404, `DELETE /v1/api_keys/${minted.prefix}`)
    await lab.refused(404, `PATCH /v1/api_keys/${minted.prefix}`, { name: 'back' })
    assert.deepEqual(management.changes.at(-1), { kind: 'key', hash: keyHash(minted.key) })
  })

  test('what a type of key cannot be bound to is a 400 that names it', async () => {
    lab = await management.lab()
    const model = await modelOf(lab)
    const person = await lab.ok<{ id: string }>('POST /v1/users', { email: 'a@example.com' })
    const bounds: [string, unknown][] = [
      ['model_ids', [model]],
      ['environments', ['production']],
      ['user_id', person.id],
    ]
    const taken: Record<string, string[]> = {
      PERSONAL: ['user_id'],
      WORKSPACE_MANAGE_ALL: ['environments'],
      WORKSPACE_INVOKE: ['model_ids', 'environments'],
      WORKSPACE_EXPORT_METRICS: ['model_ids'],
      WORKSPACE_MANAGE_API_KEYS: [],
    }
    for (const [type, fields] of Object.entries(taken)) {
      for (const [field, value] of bounds) {
        if (fields.includes(field)) await lab.ok('POST /v1/api_keys', { type, [field]: value })
        else await lab.invalid(field, 'POST /v1/api_keys', { type, [field]: value })
      }
    }
    await lab.invalid('model_ids', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [] })
    await lab.invalid('model_ids.1', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [model, 'nope'] })
    const foreign = await modelOf(await management.lab())
    await lab.invalid('model_ids.0', 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [foreign] })
  })
})
