import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { keyHash } from '../../src/access/api-key.ts'
import { type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'

interface MintedKey {
  api_key: string
  prefix: string
  name: string | null
}

interface KeyInfo {
  prefix: string
  name: string | null
  created_at: string
}

describe("the keys of a group's customers", () => {
  let management: Management
  let lab: Lab
  let keys: string
  let groups = 0

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
  })
  after(() => management[Symbol.asyncDispose]())
  beforeEach(async () => {
    groups += 1
    const { id } = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: `customer-${groups}` },
      models: [{ slug: 'org-1/model' }],
      hierarchy: {},
    })
    keys = `/v1/gateway/groups/${id}/api_keys`
    management.changes.length = 0
  })

  const mint = (body?: object) => lab.ok<MintedKey>(`POST ${keys}`, body)

  test('a minted key is prefix.secret with at least 32 random bytes, and is shown once', async () => {
    const { api_key, ...shown } = await mint({ name: 'prod-key-1' })
    const [prefix, secret = '', ...rest] = api_key.split('.')
    assert.deepEqual(rest, [])
    assert.deepEqual(shown, { prefix, name: 'prod-key-1' })
    assert.match(api_key, /^tk_/)
    assert.equal(Buffer.from(secret, 'base64url').length, 32)

    const read = await lab.call<KeyInfo>(`GET ${keys}/${prefix}`)
    const listed = await lab.call<Page<KeyInfo>>(`GET ${keys}`)
    assert.doesNotMatch(JSON.stringify([read.body, listed.body]), new RegExp(secret))
    assert.deepEqual(listed.body.items, [read.body])
    assert.deepEqual({ prefix: read.body.prefix, name: read.body.name }, shown)
  })

  test('of a key its SHA-256 is stored, and nothing else that leads to it', async () => {
    const { api_key, prefix } = await mint()
    const row = await management.database.queries
      .selectFrom('federated_keys')
      .selectAll()
      .where('prefix', '=', prefix)
      .executeTakeFirstOrThrow()
    assert.equal(row.hash, keyHash(api_key))
    assert.equal(JSON.stringify(row).includes(api_key.slice(prefix.length + 1)), false)
    assert.deepEqual(management.changes, [{ kind: 'key', hash: keyHash(api_key) }])
  })

  test('a name is optional, up to 255 characters', async () => {
    for (const body of [undefined, {}, { name: null }]) assert.equal((await mint(body)).name, null)
    assert.equal((await mint({ name: 'x'.repeat(255) })).name?.length, 255)
    await lab.invalid('name', `POST ${keys}`, { name: 'x'.repeat(256) })
    await lab.invalid('name', `POST ${keys}`, { name: 7 })
    await lab.invalid('models', `POST ${keys}`, { models: [] })
  })

  test('two keys of a group are different, and listed oldest first', async () => {
    const minted = [await mint({ name: 'a' }), await mint({ name: 'a' }), await mint({ name: 'b' })]
    const { items } = await lab.ok<Page<KeyInfo>>(`GET ${keys}`)
    assert.deepEqual(
      items.map(({ prefix }) => prefix),
      minted.map(({ prefix }) => prefix),
    )
    assert.equal(new Set(items.map(({ prefix }) => prefix)).size, 3)
    const first = await lab.ok<Page<KeyInfo>>(`GET ${keys}?limit=2`)
    const second = await lab.ok<Page<KeyInfo>>(`GET ${keys}?limit=2&cursor=${first.pagination.cursor}`)
    assert.deepEqual([...first.items, ...second.items], items)
  })

  test('a revoked key is gone for good', async () => {
    const { api_key, prefix } = await mint()
    const other = await mint()
    management.changes.length = 0
    assert.deepEqual(await lab.ok(`DELETE ${keys}/${prefix}`), { prefix })
    assert.deepEqual(management.changes, [{ kind: 'key', hash: keyHash(api_key) }])
    await lab.refused(404, `GET ${keys}/${prefix}`)
    await lab.refused(404, `DELETE ${keys}/${prefix}`)
    const { items } = await lab.ok<Page<KeyInfo>>(`GET ${keys}`)
    assert.deepEqual(
      items.map((key) => key.prefix),
      [other.prefix],
    )
  })

  test('of writers that revoke one key at the same moment, one is told so', async () => {
    const { prefix } = await mint()
    const answers = await Promise.all([1, 2, 3].map(() => lab.call(`DELETE ${keys}/${prefix}`)))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 404, 404])
  })

  test('a key of type WORKSPACE_MANAGE_API_KEYS mints, reads and revokes, and sees no group', async () => {
    const keeper = await management.keyOfType('WORKSPACE_MANAGE_API_KEYS', lab.workspaceId)
    const { prefix } = await keeper.ok<MintedKey>(`POST ${keys}`)
    await keeper.ok(`GET ${keys}/${prefix}`)
    await keeper.ok(`DELETE ${keys}/${prefix}`)
    await keeper.refused(403, 'GET /v1/gateway/groups')
  })
})
