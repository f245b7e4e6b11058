import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import Fastify from 'fastify'
import { z } from 'zod'
import { keyHash } from '../../src/access/api-key.ts'
import { systemClock } from '../../src/clock.ts'
import { invalid } from '../../src/errors.ts'
import { mountRoutes } from '../../src/management/mount-routes.ts'
import { defineRoute, type Route } from '../../src/management/route.ts'
import { createBootstrapWorkspace } from '../../src/management/workspaces.ts'
import { ChangeLog } from '../../src/storage/change-log.ts'
import type { Database, Transaction } from '../../src/storage/database.ts'
import { SecretBox } from '../../src/storage/secret-box.ts'
import { openTestDatabase } from '../support/database-backends.ts'

const key = 'wk_test.0123456789abcdef0123456789abcdef'

test('what a handler returns beyond the declared response does not leave', async () => {
  const Answer = z.object({ id: z.string(), nested: z.object({ shown: z.boolean() }) })
  const overflowing = { id: 'a', secret: 'b', nested: { shown: true, hidden: 'c' } }
  const route = defineRoute({
    method: 'GET',
    path: '/v1/test',
    permission: 'models:view',
    summary: 'Test',
    tag: 'Test',
    response: Answer,
    handler: async () => overflowing,
  })
  await using served = await serveRoutes([route])
  const answer = await served.call('GET')
  assert.deepEqual(answer, { status: 200, body: { id: 'a', nested: { shown: true } } })
})

test('a handler that returns less than it declares ends as a 500, not as a wrong answer', async () => {
  const missing: { id: string } = JSON.parse('{}')
  const route = defineRoute({
    method: 'GET',
    path: '/v1/test',
    permission: 'models:view',
    summary: 'Test',
    tag: 'Test',
    response: z.object({ id: z.string() }),
    handler: async () => missing,
  })
  await using served = await serveRoutes([route])
  assert.equal((await served.call('GET')).status, 500)
})

test('a write that is refused leaves no row behind and announces nothing', async () => {
  const changeLog = new ChangeLog()
  const announced: unknown[] = []
  changeLog.subscribe((change) => {
    announced.push(change)
  })
  const shared = {
    path: '/v1/test',
    permission: 'models:manage',
    summary: 'Test',
    tag: 'Test',
    response: z.object({ name: z.string() }),
    audit: () => [],
  } as const
  const rename = async (transaction: Transaction) => {
    const name = 'changed'
    await transaction.queries.updateTable('workspaces').set({ name }).execute()
    changeLog.record(transaction, { kind: 'workspace', workspaceId: 'any' })
    return { name }
  }
  const taken = defineRoute({ ...shared, method: 'POST', handler: ({ transaction }) => rename(transaction) })
  const refusing = defineRoute({
    ...shared,
    method: 'DELETE',
    async handler({ transaction }) {
      await rename(transaction)
      throw invalid('name', 'Not this time.')
    },
  })
  await using served = await serveRoutes([taken, refusing])
  const name = async () =>
    (await served.database.queries.selectFrom('workspaces').select('name').executeTakeFirstOrThrow()).name
  const refused = await served.call('DELETE')
  assert.notEqual(refused.status, 200)
  assert.deepEqual([await name(), announced.length], ['default', 0])
  assert.deepEqual(await served.call('POST'), { status: 200, body: { name: 'changed' } })
  assert.deepEqual([await name(), announced.length], ['changed', 1])
})

interface Served extends AsyncDisposable {
  database: Database
  call(method: string): Promise<{ status: number; body: unknown }>
}

/** Routes alone, as the listener serves them, for a caller who may do everything. */
async function serveRoutes(routes: Route[]): Promise<Served> {
  await using started = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-routes-'))
  started.defer(() => rm(folder, { recursive: true, force: true }))
  const database = started.use(await openTestDatabase(folder))
  await createBootstrapWorkspace(database, { key, clock: systemClock })
  const server = Fastify()
  started.defer(() => server.close())
  mountRoutes(server, routes, {
    database,
    changeLog: new ChangeLog(),
    keyUse: { noted() {} },
    clock: systemClock,
    secretBox: new SecretBox(Buffer.alloc(32)),
    operatorKeyHash: keyHash('operator'),
  })
  const url = await server.listen({ host: '127.0.0.1', port: 0 })
  const parts = started.move()
  return {
    database,
    async call(method) {
      const response = await fetch(`${url}/v1/test`, { method, headers: { authorization: `Bearer ${key}` } })
      return { status: response.status, body: await response.json() }
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}
