import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { publicPrefix } from '../../src/access/api-key.ts'
import {
  type Lab,
  type Management,
  type ManagementClient,
  type Page,
  startManagement,
} from '../support/management-client.ts'
import { keysOf, mintFor } from '../support/workspace-keys.ts'

interface Person {
  id: string
  email: string | null
  role: string
}

describe('people', () => {
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement()
  })
  after(() => management[Symbol.asyncDispose]())

  const mint = (caller: ManagementClient, body: object) => mintFor({ management, caller }, body)
  const invite = (caller: ManagementClient, email: string, role: string) =>
    caller.ok<Person>('POST /v1/users', { email, role })
  test('an address is invited once, however it is written; the workspace has an account of its own', async () => {
    lab = await management.lab()
    const person = await invite(lab, 'Ada@Example.com', 'admin')
    assert.equal(person.email, 'ada@example.com')
    await lab.invalid('email', 'POST /v1/users', { email: 'ADA@example.com' })
    await lab.invalid('email', 'POST /v1/users', { email: 'not an address' })
    const { items } = await lab.ok<Page<Person>>('GET /v1/users')
    assert.deepEqual(
      items.map(({ email, role }) => [email, role]),
      [
        [null, 'owner'],
        ['ada@example.com', 'admin'],
      ],
    )
    await lab.refused(400, `DELETE /v1/users/${items[0]?.id}`)
    await lab.refused(400, `PATCH /v1/users/${items[0]?.id}`, { role: 'member' })
  })

  test('a personal key is of the person named, else of the person who asks, else of the account', async () => {
    lab = await management.lab()
    const ada = await invite(lab, 'ada@example.com', 'member')
    const hers = await mint(lab, { type: 'PERSONAL', user_id: ada.id, name: 'first' })
    const second = await mint(hers, { type: 'PERSONAL', name: 'second' })
    const account = await mint(lab, { type: 'PERSONAL', name: 'third' })
    const owners = (await keysOf(lab)).map(({ owner }) => owner?.email)
    assert.deepEqual(owners, [undefined, 'ada@example.com', 'ada@example.com', null])
    const me = {
      user_id: ada.id,
      email: 'ada@example.com',
      name: null,
      workspace_name: `lab ${lab.orgPrefix.slice(4)}`,
    }
    assert.deepEqual(await second.ok('GET /v1/users/me'), me)
    assert.equal((await account.ok<{ email: string | null }>('GET /v1/users/me')).email, null)
    await lab.refused(404, 'POST /v1/api_keys', { type: 'PERSONAL', user_id: 'nobody' })
  })

  test('a key that is no person answers for itself', async () => {
    lab = await management.lab()
    const ci = await mint(lab, { type: 'WORKSPACE_MANAGE_ALL', name: 'ci' })
    const { user_id, name, email } = await ci.ok<{ user_id: string; name: string; email: null }>('GET /v1/users/me')
    assert.deepEqual({ user_id, name, email }, { user_id: ci.prefix, name: 'ci', email: null })
  })

  test('a member sees and manages their own keys, and no others', async () => {
    lab = await management.lab()
    const ada = await invite(lab, 'ada@example.com', 'member')
    const bob = await invite(lab, 'bob@example.com', 'member')
    const ofAda = await mint(lab, { type: 'PERSONAL', user_id: ada.id, name: 'ada' })
    const ofBob = await mint(lab, { type: 'PERSONAL', user_id: bob.id, name: 'bob' })
    assert.deepEqual(
      (await keysOf(ofAda)).map(({ name }) => name),
      ['ada'],
    )
    await ofAda.ok(`PATCH /v1/api_keys/${ofAda.prefix}`, { name: 'laptop' })
    for (const prefix of [ofBob.prefix, publicPrefix(lab.key)])
      await ofAda.refused(403, `DELETE /v1/api_keys/${prefix}`)
    await ofAda.refused(403, 'POST /v1/api_keys', { type: 'PERSONAL', user_id: bob.id })
    await ofAda.refused(403, 'POST /v1/api_keys', { type: 'WORKSPACE_INVOKE' })
    await ofAda.refused(403, 'POST /v1/users', { email: 'eve@example.com' })
  })

  test('a change of role holds at once; removing a person revokes their keys', async () => {
    lab = await management.lab()
    const ada = await invite(lab, 'ada@example.com', 'member')
    const hers = await mint(lab, { type: 'PERSONAL', user_id: ada.id })
    await hers.refused(403, 'POST /v1/teams', { name: 'a' })
    assert.equal((await lab.ok<Person>(`PATCH /v1/users/${ada.id}`, { role: 'admin' })).role, 'admin')
    await hers.ok('POST /v1/teams', { name: 'a' })
    assert.equal((await lab.ok<Person>(`DELETE /v1/users/${ada.id}`)).email, 'ada@example.com')
    await hers.refused(401, 'GET /v1/models')
    await lab.refused(404, `DELETE /v1/users/${ada.id}`)
    await invite(lab, 'ada@example.com', 'member')
    await hers.refused(401, 'GET /v1/models')
  })

  test('a key that an admin minted for somebody else does not rise above an admin, nor do the keys that it mints', async () => {
    lab = await management.lab()
    const bob = await invite(lab, 'bob@example.com', 'member')
    const admin = await invite(lab, 'admin@example.com', 'admin')
    const ofAdmin = await mint(lab, { type: 'PERSONAL', user_id: admin.id })
    const seen = await mint(ofAdmin, { type: 'PERSONAL', user_id: bob.id })
    await seen.refused(403, 'POST /v1/teams', { name: 'early' })

    await lab.ok(`PATCH /v1/users/${bob.id}`, { role: 'owner' })
    await seen.ok('POST /v1/teams', { name: 'as-an-admin' })
    const next = await mint(seen, { type: 'PERSONAL' })
    for (const key of [seen, next]) {
      await key.refused(403, 'POST /v1/api_keys', { type: 'WORKSPACE_MANAGE_ALL' })
      await key.refused(403, `PATCH /v1/users/${admin.id}`, { role: 'owner' })
    }
    const ofOwner = await mint(lab, { type: 'PERSONAL', user_id: bob.id })
    await ofOwner.ok('POST /v1/api_keys', { type: 'WORKSPACE_MANAGE_ALL' })

    await lab.ok(`PATCH /v1/users/${bob.id}`, { role: 'member' })
    for (const key of [seen, next, ofOwner]) await key.refused(403, 'POST /v1/teams', { name: 'late' })
  })

  test('owners are made and unmade by owners alone', async () => {
    lab = await management.lab()
    const owner = await invite(lab, 'owner@example.com', 'owner')
    const admin = await invite(lab, 'admin@example.com', 'admin')
    const ofAdmin = await mint(lab, { type: 'PERSONAL', user_id: admin.id })
    const ofOwner = await mint(lab, { type: 'PERSONAL', user_id: owner.id })
    await ofAdmin.refused(403, 'POST /v1/users', { email: 'eve@example.com', role: 'owner' })
    await ofAdmin.refused(403, `PATCH /v1/users/${admin.id}`, { role: 'owner' })
    await ofAdmin.refused(403, `PATCH /v1/users/${owner.id}`, { role: 'member' })
    await ofAdmin.refused(403, `DELETE /v1/users/${owner.id}`)
    await ofAdmin.refused(403, 'POST /v1/api_keys', { type: 'PERSONAL', user_id: owner.id })
    await ofOwner.ok(`PATCH /v1/users/${admin.id}`, { role: 'owner' })
    await ofAdmin.ok(`DELETE /v1/users/${owner.id}`)
  })
})
