import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { answerPurpose } from '../../src/management/idempotency.ts'
import { SecretBox } from '../../src/storage/secret-box.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { startGateway } from '../support/gateway.ts'
import { type ErrorBody, type Lab, type Page, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'

interface MintedKey {
  api_key: string
  prefix: string
}

const dayMs = 24 * 3_600_000

test('a POST sent again with its Idempotency-Key is carried out once, and answered the same', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  const mint = (key: string) => lab.call<MintedKey>(`POST ${keys}`, { name: 'a' }, { 'idempotency-key': key })
  const answers = [await mint('one'), ...(await Promise.all([mint('one'), mint('one')]))]
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  )
  assert.equal(new Set(answers.map(({ body }) => body.api_key)).size, 1)
  assert.equal((await lab.ok<Page<MintedKey>>(`GET ${keys}`)).items.length, 1)
  assert.notEqual((await mint('two')).body.prefix, answers[0]?.body.prefix)
})

test('of many requests at once with one Idempotency-Key, one creates and all are answered the same', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => lab.call<MintedKey>(`POST ${keys}`, { name: 'a' }, { 'idempotency-key': 'one' })),
  )
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
  assert.equal(new Set(answers.map(({ body }) => body.api_key)).size, 1)
  assert.equal((await lab.ok<Page<MintedKey>>(`GET ${keys}`)).items.length, 1)
})

test('the same Idempotency-Key with another body is a 409, and nothing is carried out', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  const mint = (body: object | undefined) => lab.call<ErrorBody>(`POST ${keys}`, body, { 'idempotency-key': 'one' })
  assert.equal((await mint({ name: 'a' })).status, 200)
  const conflict = await mint({ name: 'b' })
  assert.deepEqual([conflict.status, conflict.body.code], [409, 'CONFLICT'])
  assert.equal((await mint(undefined)).status, 409)
  assert.equal((await lab.ok<Page<MintedKey>>(`GET ${keys}`)).items.length, 1)
})

test('an Idempotency-Key is remembered for 24 hours', async () => {
  const clock = new ManualClock()
  await using management = await startManagement({ clock })
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  const mint = async (body: object) =>
    (await lab.call<MintedKey>(`POST ${keys}`, body, { 'idempotency-key': 'one' })).body.prefix
  const first = await mint({ name: 'a' })
  clock.advance(dayMs - 1)
  assert.equal(await mint({ name: 'a' }), first)
  clock.advance(1)
  assert.notEqual(await mint({ name: 'b' }), first)
})

test('answers of more than a day ago are removed within a minute, also when nobody sends requests', async () => {
  const clock = new ManualClock()
  await using gateway = await startGateway({ clock })
  await using database = await openTestDatabase(gateway.dataDir)
  const { queries } = database
  const rowsLeft = async () => (await queries.selectFrom('idempotent_answers').select('id').execute()).length
  const older = Array.from({ length: 1_200 }, (_, index) => ({
    id: `older ${index}`,
    request_hash: '',
    sealed_answer: '',
    created_at: clock.now() - index - 1,
  }))
  for (let at = 0; at < older.length; at += 200) {
    await queries
      .insertInto('idempotent_answers')
      .values(older.slice(at, at + 200))
      .execute()
  }
  await queries
    .insertInto('idempotent_answers')
    .values({ id: 'young', request_hash: '', sealed_answer: '', created_at: clock.now() + dayMs })
    .execute()

  clock.advance(dayMs - 60_000)
  assert.equal(await rowsLeft(), 1_201)
  await until(async () => {
    clock.advance(60_000)
    return (await rowsLeft()) === 1
  })
  const [left] = await queries.selectFrom('idempotent_answers').select('id').execute()
  assert.equal(left?.id, 'young')
})

test('a refused request is not remembered: sent again, it is tried again', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const create = (external_entity_id: string, key: string) =>
    lab.call(
      'POST /v1/gateway/groups',
      { metadata: { external_entity_id }, models: [{ slug: 'a/b' }], hierarchy: {} },
      { 'idempotency-key': key },
    )
  const taken = await create('taken', 'first')
  assert.equal((await create('taken', 'second')).status, 400)
  await lab.ok(`DELETE /v1/gateway/groups/${(taken.body as { id: string }).id}`)
  assert.equal((await create('taken', 'second')).status, 200)
})

test("one caller's Idempotency-Key means nothing to another, nor on another path", async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const paths = [await keysOfNewGroup(lab, 'a'), await keysOfNewGroup(lab, 'b')]
  const other = await management.keyOfType('WORKSPACE_MANAGE_ALL', lab.workspaceId)
  const prefixes = new Set<string>()
  for (const caller of [lab, other]) {
    for (const path of paths) {
      const { status, body } = await caller.call<MintedKey>(`POST ${path}`, {}, { 'idempotency-key': 'one' })
      assert.equal(status, 200)
      prefixes.add(body.prefix)
    }
  }
  assert.equal(prefixes.size, 4)
})

test('an answer that is remembered is not readable in the database', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  const { body } = await lab.call<MintedKey>(`POST ${keys}`, {}, { 'idempotency-key': 'one' })
  const rows = await management.database.queries.selectFrom('idempotent_answers').selectAll().execute()
  assert.equal(rows.length, 1)
  const stored = Buffer.from(rows[0]?.sealed_answer ?? '', 'base64').toString('latin1')
  assert.equal(stored.includes(body.prefix), false)
})

test('of a request that is remembered, nothing is readable by which its secret could be guessed', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const body = { name: 'upstream', value: 'hunter2' }
  await lab.call('POST /v1/secrets', body, { 'idempotency-key': 'one' })
  assert.equal((await lab.call('POST /v1/secrets', body, { 'idempotency-key': 'one' })).status, 200)
  const conflict = await lab.call('POST /v1/secrets', { ...body, value: 'hunter3' }, { 'idempotency-key': 'one' })
  assert.equal(conflict.status, 409)
  const rows = await management.database.queries.selectFrom('idempotent_answers').selectAll().execute()
  assert.equal(rows.length, 1)
  for (const encoding of ['base64', 'base64url', 'hex'] as const) {
    assert.equal(JSON.stringify(rows).includes(hash('sha256', JSON.stringify(body), encoding)), false)
  }
})

test('an answer with a bare hash beside it, as earlier versions wrote it, means the same', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  const mint = (name: string) => lab.call<MintedKey>(`POST ${keys}`, { name }, { 'idempotency-key': 'one' })
  const first = await mint('a')
  const { queries } = management.database
  const { id } = await queries.selectFrom('idempotent_answers').select('id').executeTakeFirstOrThrow()
  const secretBox = new SecretBox(Buffer.alloc(32, 7))
  await queries
    .updateTable('idempotent_answers')
    .set({
      request_hash: hash('sha256', JSON.stringify({ name: 'a', expires_at: null }), 'base64'),
      sealed_answer: secretBox.seal(JSON.stringify(first.body), answerPurpose(id)),
    })
    .execute()
  assert.deepEqual((await mint('a')).body, first.body)
  assert.equal((await mint('b')).status, 409)
})

test('an Idempotency-Key is 1 to 255 printable characters', async () => {
  await using management = await startManagement()
  const lab = await management.lab()
  const keys = await keysOfNewGroup(lab)
  for (const key of ['', 'a b', 'x'.repeat(256)]) {
    const { status, body } = await lab.call<ErrorBody>(`POST ${keys}`, {}, { 'idempotency-key': key })
    assert.deepEqual([status, body.details?.[0]?.path], [400, 'idempotency-key'], key)
  }
})

async function keysOfNewGroup(lab: Lab, external_entity_id = 'customer'): Promise<string> {
  const { id } = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
    metadata: { external_entity_id },
    models: [{ slug: 'a/b' }],
    hierarchy: {},
  })
  return `/v1/gateway/groups/${id}/api_keys`
}
