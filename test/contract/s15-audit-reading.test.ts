import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { sql } from 'kysely'
import { type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'
import { ManualClock } from '../support/manual-clock.ts'

interface Entry {
  id: string
  event_type: string
  event_data: Record<string, unknown>
}

const production = { name: 'production', base_url: 'http://127.0.0.1:1/v1' }

describe('the audit log', () => {
  const clock = new ManualClock()
  let management: Management
  let lab: Lab

  before(async () => {
    management = await startManagement({ clock })
  })
  after(() => management[Symbol.asyncDispose]())

  const entries = async (query = '', caller = lab) =>
    (await caller.ok<Page<Entry>>(`GET /v1/audit_logs?limit=200${query}`)).items
  const types = async (query = '') => (await entries(query)).map(({ event_type }) => event_type)

  test('is read newest first or oldest first, page by page, each entry once', async () => {
    lab = await management.lab()
    for (const name of ['a', 'b', 'c', 'd', 'e']) await lab.ok('POST /v1/teams', { name })
    const newestFirst = (await entries()).map(({ id }) => id)
    assert.equal(newestFirst.length, 6)
    assert.deepEqual(
      (await entries('&direction=ASC')).map(({ id }) => id),
      newestFirst.toReversed(),
    )
    for (const direction of ['DESC', 'ASC']) {
      const seen: string[] = []
      let cursor: string | null = ''
      while (cursor !== null) {
        const from: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
        const page: Page<Entry> = await lab.ok(`GET /v1/audit_logs?limit=4&direction=${direction}${from}`)
        seen.push(...page.items.map(({ id }) => id))
        cursor = page.pagination.cursor
      }
      assert.deepEqual(seen, direction === 'DESC' ? newestFirst : newestFirst.toReversed())
    }
    for (const limit of ['0', '201', 'x']) await lab.invalid('limit', `GET /v1/audit_logs?limit=${limit}`)
    await lab.invalid('direction', 'GET /v1/audit_logs?direction=UP')
  })

  test('holds 20 entries a page unless asked otherwise', async () => {
    lab = await management.lab()
    for (let team = 0; team < 20; team += 1) await lab.ok('POST /v1/teams', { name: `t${team}` })
    const { items, pagination } = await lab.ok<Page<Entry>>('GET /v1/audit_logs')
    assert.deepEqual([items.length, pagination.has_more], [20, true])
  })

  test('is filtered by words, kinds, people, models, environments, sources and times, all at once', async () => {
    lab = await management.lab()
    const ada = await lab.ok<{ id: string }>('POST /v1/users', { email: 'ada@example.com', role: 'admin' })
    const { api_key } = await lab.ok<{ api_key: string }>('POST /v1/api_keys', { type: 'PERSONAL', user_id: ada.id })
    const staging = { ...production, name: 'staging_1' }
    const one = await lab.ok<{ id: string }>('POST /v1/models', { name: 'one', environments: [production, staging] })
    clock.advance(1_000)
    const startMs = clock.now()
    const two = await management
      .caller(api_key)
      .ok<{ id: string }>('POST /v1/models', { name: 'staging_1', environments: [production] })
    clock.advance(1_000)
    const endMs = clock.now()
    await lab.ok(`DELETE /v1/models/${one.id}`)

    assert.deepEqual(await types(`&deployment_ids=${one.id}`), ['MODEL_DELETED', 'MODEL_CREATED'])
    assert.equal((await types(`&deployment_ids=${one.id}&deployment_ids=${two.id}`)).length, 3)
    assert.deepEqual(await types('&chain_deployment_ids=any'), [])
    assert.deepEqual(
      (await entries('&environment_names=staging_1')).map(({ event_data }) => event_data['model_id']),
      [one.id],
    )
    assert.deepEqual(await types('&environment_names=stagingX1'), [])
    assert.deepEqual(
      (await entries(`&user_ids=${ada.id}`)).map(({ event_data }) => event_data['model_id']),
      [two.id],
    )
    assert.deepEqual(await types('&event_type_groups=API_KEYS&event_type_groups=USER_MANAGEMENT'), [
      'API_KEY_CREATED',
      'USER_INVITED',
    ])
    assert.deepEqual(await types('&event_type_groups=SSH'), [])
    assert.deepEqual(await types('&sources=UI&sources=MCP'), [])
    assert.equal((await types('&sources=API')).length, 6)
    assert.deepEqual(await types(`&start_epoch_millis=${startMs}&end_epoch_millis=${endMs}`), ['MODEL_CREATED'])
    assert.deepEqual(await types('&search=ADA%40'), ['MODEL_CREATED', 'USER_INVITED'])
    assert.deepEqual(await types('&search=model_del'), ['MODEL_DELETED'])
    assert.deepEqual(await types('&search=%25'), [])
    assert.deepEqual(await types(`&search=staging&user_ids=${ada.id}&event_type_groups=DEPLOYED`), ['MODEL_CREATED'])
    assert.deepEqual(await types(`&search=staging&user_ids=${ada.id}&event_type_groups=DELETED`), [])
    await lab.invalid('event_type_groups.0', 'GET /v1/audit_logs?event_type_groups=NONE')
  })

  test('is searched to its end, however rare what is looked for', async () => {
    lab = await management.lab()
    await lab.ok('POST /v1/teams', { name: 'needle' })
    await sql`
      insert into audit_logs (id, workspace_id, created_at, event_type, event_data, search_text, actor_type, source)
      with recursive numbers(number) as (select 1 union all select number + 1 from numbers where number < 5000)
      select 'z' || cast(10000000 + number as text), ${lab.workspaceId}, 0, 'TEAM_DELETED',
        '{"event_type":"TEAM_DELETED","team_id":"t","team_name":"hay"}', 'hay', 'API_KEY', 'API'
      from numbers`.execute(management.database.queries)
    await lab.ok('POST /v1/teams', { name: 'needle 2' })
    assert.deepEqual(await types('&search=needle'), ['TEAM_CREATED', 'TEAM_CREATED'])
    assert.deepEqual(await types('&search=needle&direction=ASC'), ['TEAM_CREATED', 'TEAM_CREATED'])
    assert.equal((await types('&search=hay')).length, 200)
  })

  test('is of one workspace alone: another sees nothing of it', async () => {
    lab = await management.lab()
    await lab.ok('POST /v1/teams', { name: 'ours' })
    const other = await management.lab()
    assert.deepEqual(
      (await entries('', other)).map(({ event_type }) => event_type),
      ['WORKSPACE_CREATED'],
    )
    assert.deepEqual(await entries('&search=ours', other), [])
  })
})
