import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { sql } from 'kysely'
import { HurriedClock } from '../support/hurried-clock.ts'
import { type LabResources, resourcesOf, validBodies } from '../support/lab-resources.ts'
import {
  type Answer,
  type Lab,
  type Management,
  operations,
  type Page,
  startManagement,
} from '../support/management-client.ts'

/** In every name that the first workspace gives, and in nothing that the second one sends. */
const marker = 'zebra'

describe('a workspace', () => {
  let management: Management
  let first: Lab
  let theirs: LabResources
  let second: Lab

  before(async () => {
    management = await startManagement({ clock: new HurriedClock() })
    first = await management.lab({ name: `${marker} lab`, org_prefixes: [marker], key_prefix: `${marker}_` })
    first.orgPrefix = marker
    theirs = await resourcesOf(first, marker)
    await first.ok('POST /v1/gateway/groups', {
      metadata: { external_entity_id: `child-${marker}` },
      models: [{ slug: 'a/b' }],
      hierarchy: { parent_group_id: theirs.fill('{group_id}') },
    })
    second = await management.lab()
    await resourcesOf(second)
  })
  after(() => management[Symbol.asyncDispose]())

  test('cannot reach what another owns through the id of any of its resources, on any route', async () => {
    const before = await rowsOf(first)
    let requests = 0
    for (const { method, path } of operations(management)) {
      if (!path.includes('{')) continue
      const body = validBodies[`${method} ${path}`]
      const paths = [theirs.fill(path), ...theirs.ids.map((id) => path.replaceAll(/\{\w+\}/g, encodeURIComponent(id)))]
      for (const one of paths) {
        const answer = await look(`${method} ${one}`, body)
        assert.ok([403, 404].includes(answer.status), `${method} ${one} answered ${answer.status}`)
        requests += 1
      }
    }
    assert.ok(requests > 300, `${requests} requests`)
    assert.deepEqual(await rowsOf(first), before)
  })

  test('cannot use in a body what another owns', async () => {
    const before = await rowsOf(first)
    const environments = (secret_id: string) => [{ name: 'production', base_url: 'http://127.0.0.1:1/v1', secret_id }]
    const targets = (fields: object) => [{ target_model: 'm', ...fields }]
    const hosted = { provider: 'OPENAI_COMPATIBLE', base_url: 'http://127.0.0.1:1/v1' }
    const group = { metadata: { external_entity_id: 'child' }, models: [{ slug: 'a/b' }] }
    const slug = `${second.orgPrefix}/stolen`
    for (const id of theirs.ids) {
      for (const [request, body] of [
        ['POST /v1/models', { name: 'm', environments: environments(id) }],
        ['POST /v1/gateway/endpoints', { slug, targets: targets({ provider: 'SELF_HOSTED', model_id: id }) }],
        ['POST /v1/gateway/endpoints', { slug, targets: targets({ ...hosted, secret_id: id }) }],
        ['POST /v1/gateway/groups', { ...group, hierarchy: { parent_group_id: id } }],
        ['POST /v1/api_keys', { type: 'WORKSPACE_INVOKE', model_ids: [id] }],
        ['POST /v1/api_keys', { type: 'PERSONAL', user_id: id }],
      ] as const) {
        const { status } = await look(request, body)
        assert.ok([400, 403, 404].includes(status), `${request} ${JSON.stringify(body)} answered ${status}`)
      }
    }
    await second.invalid('slug', 'POST /v1/gateway/endpoints', {
      slug: `${marker}/a`,
      targets: [{ ...hosted, target_model: 'm' }],
    })
    assert.deepEqual(await rowsOf(first), before)
  })

  test('sees nothing of another in any list, with any filter and with any cursor of theirs', async () => {
    for (const { method, path } of operations(management)) {
      if (method !== 'GET' || path.includes('{') || path.startsWith('/v1/operator/')) continue
      const parameters = management.schemas.document.paths[path]?.['get']?.parameters ?? []
      const names = parameters.flatMap(({ in: place, name }) => (place === 'query' ? [name] : []))
      const time = names.includes('start_time') ? 'start_time=2020-01-01T00:00:00Z' : ''
      await look(`GET ${path}?${time}`)
      for (const name of names.filter((candidate) => candidate !== 'start_time')) {
        for (const id of theirs.ids) await look(`GET ${path}?${time}&${name}=${encodeURIComponent(id)}`)
      }
      if (names.includes('cursor')) {
        const { body } = await first.call<Partial<Page<unknown>>>(`GET ${path}?limit=1&${time}`)
        const cursor = body.pagination?.cursor
        if (cursor != null) await look(`GET ${path}?cursor=${encodeURIComponent(cursor)}`)
      }
    }
  })

  /** What the second workspace is told; fails where that holds anything of the first that was not in the question. */
  async function look(request: string, body?: object): Promise<Answer> {
    const answer: Answer = await second.call(request, body)
    const text = JSON.stringify(answer.body)
    const asked = decodeURIComponent(request) + JSON.stringify(body ?? {})
    for (const id of [...theirs.ids, marker]) {
      if (!asked.includes(id)) assert.ok(!text.includes(id), `${request} told of ${id}: ${text}`)
    }
    return answer
  }

  /** Every row of every table that belongs to `lab`. */
  async function rowsOf({ workspaceId }: Lab): Promise<Record<string, unknown[]>> {
    const { queries } = management.database
    const rows: Record<string, unknown[]> = {}
    for (const { name, columns } of await queries.introspection.getTables()) {
      const owner = columns.find((column) => column.name === 'workspace_id')
      if (owner === undefined && name !== 'workspaces') continue
      const column = name === 'workspaces' ? 'id' : 'workspace_id'
      const found = await sql`select * from ${sql.table(name)} where ${sql.ref(column)} = ${workspaceId}`.execute(
        queries,
      )
      rows[name] = found.rows
    }
    return rows
  }
})
