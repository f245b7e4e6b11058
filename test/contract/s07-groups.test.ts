import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type ErrorBody, type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'

interface Limit {
  type: string
  unit: string
  threshold: number
  source_group?: string
}

interface ModelConfig {
  slug: string
  rate_limits: Limit[]
  usage_limits: Limit[]
}

interface Group {
  id: string
  metadata: { name: string | null; external_entity_id: string }
  models: ModelConfig[]
  effective_models: ModelConfig[]
  hierarchy: { limit_enforcement: string; parent_group_id: string | null }
  created_at: string
}

const slug = 'org-1/model'
const path = '/v1/gateway/groups'

describe('groups', () => {
  let management: Management
  let lab: Lab
  let created = 0

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
  })
  after(() => management[Symbol.asyncDispose]())

  function body({
    models = [{ slug }],
    hierarchy = {},
    metadata = {},
  }: {
    models?: object[]
    hierarchy?: object
    metadata?: object
  } = {}) {
    created += 1
    return { metadata: { external_entity_id: `entity-${created}`, ...metadata }, models, hierarchy }
  }

  const create = (options: Parameters<typeof body>[0] = {}, caller: Lab = lab) =>
    caller.ok<Group>(`POST ${path}`, body(options))
  const child = (parent: Group, models: object[] = [{ slug }]) =>
    create({ models, hierarchy: { parent_group_id: parent.id } })
  const read = (group: Group) => lab.ok<Group>(`GET ${path}/${group.id}`)
  const slugs = (count: number) => Array.from({ length: count }, (_, index) => ({ slug: `org-1/${index}` }))

  test('a group is read back as it was created, with what is enforced beside it', async () => {
    const minute = { type: 'TOKEN', unit: 'MINUTE', threshold: 1_000_000 }
    const second = { type: 'REQUEST', unit: 'SECOND', threshold: 0 }
    const day = { type: 'TOKEN', unit: 'DAY', threshold: 10_000_000 }
    management.changes.length = 0
    const group = await create({
      metadata: { name: 'Acme prod', external_entity_id: 'cust_42' },
      models: [{ slug, rate_limits: [minute, second], usage_limits: [day] }],
      hierarchy: { limit_enforcement: 'INDEPENDENT', parent_group_id: null },
    })
    const source_group = group.id
    assert.deepEqual(group, {
      id: group.id,
      metadata: { name: 'Acme prod', external_entity_id: 'cust_42' },
      models: [{ slug, rate_limits: [minute, second], usage_limits: [day] }],
      effective_models: [
        {
          slug,
          rate_limits: [
            { ...minute, source_group },
            { ...second, source_group },
          ],
          usage_limits: [{ ...day, source_group }],
        },
      ],
      hierarchy: { limit_enforcement: 'INDEPENDENT', parent_group_id: null },
      created_at: group.created_at,
    })
    assert.match(group.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.deepEqual(await read(group), group)
    assert.deepEqual(management.changes, [{ kind: 'group', groupId: group.id }])
  })

  test('what is left out has the defaults of the contract', async () => {
    const group = await create()
    assert.equal(group.metadata.name, null)
    assert.deepEqual(group.models, [{ slug, rate_limits: [], usage_limits: [] }])
    assert.deepEqual(group.hierarchy, { limit_enforcement: 'INDEPENDENT', parent_group_id: null })
    const cascading = await create({ hierarchy: { limit_enforcement: 'CASCADING' } })
    assert.equal((await child(cascading)).hierarchy.limit_enforcement, 'CASCADING')
    const nulls = await create({
      hierarchy: { limit_enforcement: null, parent_group_id: null },
      metadata: { name: null },
    })
    assert.deepEqual(nulls.hierarchy, group.hierarchy)
  })

  test('what is not valid is a 400 whose details name the place, however deep', async () => {
    const limit = { type: 'TOKEN', unit: 'MINUTE', threshold: 1 }
    const daily = { type: 'TOKEN', unit: 'DAY', threshold: 1 }
    const models = (model: object) => ({ ...body(), models: [{ slug: 'org-1/first' }, { slug, ...model }] })
    const refused: [string, object][] = [
      ['metadata', { ...body(), metadata: undefined }],
      ['metadata.external_entity_id', body({ metadata: { external_entity_id: '' } })],
      ['metadata.external_entity_id', body({ metadata: { external_entity_id: 'x'.repeat(256) } })],
      ['metadata.external_entity_id', body({ metadata: { external_entity_id: 42 } })],
      ['metadata.name', body({ metadata: { name: 'x'.repeat(256) } })],
      ['models', body({ models: [] })],
      ['models', { ...body(), models: undefined }],
      ['models', { ...body(), models: null }],
      ['models.1.slug', models({ slug: undefined })],
      ['models.1.slug', models({ slug: '' })],
      ['models.1.slug', models({ slug: 'a b' })],
      ['models.1', models({ slug: 'org-1/first' })],
      ['models.1.rate_limits', models({ rate_limits: {} })],
      ['models.1.rate_limits', models({ rate_limits: null })],
      ['models.1.rate_limits.1.threshold', models({ rate_limits: [limit, { ...limit, threshold: -1 }] })],
      ['models.1.rate_limits.1.threshold', models({ rate_limits: [limit, { ...limit, threshold: 1.5 }] })],
      ['models.1.rate_limits.1.threshold', models({ rate_limits: [limit, { ...limit, threshold: '1' }] })],
      ['models.1.rate_limits.1.threshold', models({ rate_limits: [limit, { ...limit, threshold: null }] })],
      ['models.1.rate_limits.0.threshold', models({ rate_limits: [{ type: 'TOKEN', unit: 'MINUTE' }] })],
      ['models.1.rate_limits.0.threshold', models({ rate_limits: [{ ...limit, threshold: 2 ** 60 }] })],
      ['models.1.rate_limits.0.unit', models({ rate_limits: [{ ...limit, unit: 'DAY' }] })],
      ['models.1.rate_limits.0.type', models({ rate_limits: [{ ...limit, type: 'COST' }] })],
      ['models.1.rate_limits.1', models({ rate_limits: [limit, { ...limit, threshold: 2 }] })],
      ['models.1.usage_limits.0.unit', models({ usage_limits: [{ ...daily, unit: 'MINUTE' }] })],
      ['models.1.usage_limits.1', models({ usage_limits: [daily, { ...daily, threshold: 2 }] })],
      ['hierarchy', { ...body(), hierarchy: undefined }],
      ['hierarchy.limit_enforcement', body({ hierarchy: { limit_enforcement: 'STRICT' } })],
      ['hierarchy.parent_group_id', body({ hierarchy: { parent_group_id: 7 } })],
    ]
    for (const [place, request] of refused) await lab.invalid(place, `POST ${path}`, request)
  })

  test('a group or user has at most 1000 models, and the document says so', async () => {
    const users = '/v1/gateway/users'
    const group = await create({ models: slugs(1_000) })
    assert.equal(group.models.length, 1_000)
    assert.deepEqual(await read(group), group)
    await lab.ok(`PATCH ${path}/${group.id}`, { models: slugs(1_000) })
    await lab.ok(`POST ${users}`, { customer_id: 'many models', models: slugs(1_000) })

    const refused: [string, object][] = [
      [`POST ${path}`, body({ models: slugs(1_001) })],
      [`PATCH ${path}/${group.id}`, { models: slugs(1_001) }],
      [`POST ${users}`, { customer_id: 'many models', models: slugs(1_001) }],
    ]
    for (const [request, given] of refused) {
      const error = await lab.invalid('models', request, given)
      assert.equal(error.message, 'models: There may be at most 1000 models.')
    }
    const { schemas } = management.schemas.document.components
    for (const name of ['CreateGroupRequestV1', 'UpsertFederatedUserRequestV1']) {
      assert.equal(schemas[name]?.properties?.['models']?.maxItems, 1_000, name)
    }
    const changed = schemas['UpdateGroupRequestV1']?.properties?.['models']
    assert.equal(changed?.anyOf?.find(({ type }) => type === 'array')?.maxItems, 1_000)
  })

  test('a group that got more models before there was a bound is shown whole, and can be renamed', async () => {
    const group = await create({ metadata: { external_entity_id: 'early' } })
    await management.database.queries
      .updateTable('groups')
      .set({ models: JSON.stringify(slugs(1_001).map((model) => ({ ...model, rate_limits: [], usage_limits: [] }))) })
      .where('id', '=', group.id)
      .execute()
    assert.equal((await read(group)).effective_models.length, 1_001)
    const listed = await lab.ok<Page<Group>>(`GET ${path}?external_entity_id=early`)
    assert.equal(listed.items[0]?.models.length, 1_001)
    assert.equal((await lab.ok<Group>(`GET /v1/gateway/users/${group.id}`)).models.length, 1_001)
    const renamed = await lab.ok<Group>(`PATCH ${path}/${group.id}`, { metadata: { name: 'renamed' } })
    assert.equal(renamed.models.length, 1_001)
  })

  test('there may be one limit for each type and unit, of either kind', async () => {
    const limits = ['REQUEST', 'TOKEN'].flatMap((type) =>
      ['SECOND', 'MINUTE'].map((unit) => ({ type, unit, threshold: 5 })),
    )
    const days = ['REQUEST', 'TOKEN'].map((type) => ({ type, unit: 'DAY', threshold: 5 }))
    const group = await create({ models: [{ slug, rate_limits: limits, usage_limits: days }] })
    assert.deepEqual(group.models[0]?.rate_limits, limits)
    assert.deepEqual(group.models[0]?.usage_limits, days)
  })

  test('an external id is taken once in a workspace; another workspace may have the same', async () => {
    const metadata = { external_entity_id: 'only-once' }
    await create({ metadata })
    await lab.invalid('metadata.external_entity_id', `POST ${path}`, body({ metadata }))
    await create({ metadata }, await management.lab())
    await create({ metadata: { external_entity_id: 'x'.repeat(255) } })
  })

  test('of writers that claim one external id at the same moment, one gets it', async () => {
    const request = body({ metadata: { external_entity_id: 'contested' } })
    const answers = await Promise.all(Array.from({ length: 5 }, () => lab.call<ErrorBody>(`POST ${path}`, request)))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400, 400, 400, 400])
  })

  test('a parent is a 404 when nobody has it and a 403 when another workspace does', async () => {
    const foreign = await create({}, await management.lab())
    await lab.refused(404, `POST ${path}`, body({ hierarchy: { parent_group_id: 'nowhere' } }))
    await lab.refused(403, `POST ${path}`, body({ hierarchy: { parent_group_id: foreign.id } }))
  })

  test("a mode other than the parent's is a 400", async () => {
    for (const [mode, other] of [
      ['INDEPENDENT', 'CASCADING'],
      ['CASCADING', 'INDEPENDENT'],
    ]) {
      const parent = await create({ hierarchy: { limit_enforcement: mode } })
      await lab.invalid(
        'hierarchy.limit_enforcement',
        `POST ${path}`,
        body({ hierarchy: { limit_enforcement: other, parent_group_id: parent.id } }),
      )
      const same = await create({ hierarchy: { limit_enforcement: mode, parent_group_id: parent.id } })
      assert.deepEqual(same.hierarchy, { limit_enforcement: mode, parent_group_id: parent.id })
    }
  })

  test('a tree is five groups deep and no deeper', async () => {
    let deepest = await create()
    for (let depth = 2; depth <= 5; depth += 1) deepest = await child(deepest)
    await lab.invalid('hierarchy.parent_group_id', `POST ${path}`, body({ hierarchy: { parent_group_id: deepest.id } }))
  })

  test('INDEPENDENT: the nearest group that declares a limit of a type and unit sets it', async () => {
    const parent = await create({
      models: [{ slug, rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 100 }] }],
    })
    const perSecond = { type: 'REQUEST', unit: 'SECOND', threshold: 20 }
    const beside = await child(parent, [{ slug, rate_limits: [perSecond] }])
    assert.deepEqual(effective(beside), ['REQUEST SECOND 20 own', `REQUEST MINUTE 100 ${parent.id}`])
    const replaced = await child(parent, [{ slug, rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 50 }] }])
    assert.deepEqual(effective(replaced), ['REQUEST MINUTE 50 own'])
    const higher = await child(parent, [{ slug, rate_limits: [{ type: 'REQUEST', unit: 'MINUTE', threshold: 900 }] }])
    assert.deepEqual(effective(higher), ['REQUEST MINUTE 900 own'])
    const other = await child(parent, [{ slug: 'org-1/other' }])
    assert.deepEqual(other.effective_models, [{ slug: 'org-1/other', rate_limits: [], usage_limits: [] }])
  })

  test('CASCADING: every limit on the path to the root counts, nearest first', async () => {
    const limits = (threshold: number) => [{ slug, rate_limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold }] }]
    const root = await create({ models: limits(100), hierarchy: { limit_enforcement: 'CASCADING' } })
    const middle = await child(root, limits(50))
    const leaf = await child(middle, [...limits(50), { slug: 'org-1/other' }])
    assert.deepEqual(effective(leaf), [
      'TOKEN MINUTE 50 own',
      `TOKEN MINUTE 50 ${middle.id}`,
      `TOKEN MINUTE 100 ${root.id}`,
    ])
    assert.deepEqual(leaf.effective_models[1], { slug: 'org-1/other', rate_limits: [], usage_limits: [] })
  })

  test("CASCADING: a threshold above an ancestor's is refused on create and on PATCH, in both directions", async () => {
    const daily = (threshold: number) => [{ slug, usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold }] }]
    const root = await create({ models: daily(100), hierarchy: { limit_enforcement: 'CASCADING' } })
    const middle = await child(root, [{ slug }])
    const leaf = await child(middle, daily(60))

    const refusals = [
      await lab.refused(400, `POST ${path}`, body({ models: daily(101), hierarchy: { parent_group_id: middle.id } })),
      await lab.refused(400, `PATCH ${path}/${leaf.id}`, { models: daily(101) }),
      await lab.refused(400, `PATCH ${path}/${root.id}`, { models: daily(59) }),
      await lab.refused(400, `PATCH ${path}/${middle.id}`, { models: daily(59) }),
      await lab.refused(400, `PATCH ${path}/${middle.id}`, { models: daily(101) }),
    ]
    for (const { message } of refusals) assert.equal(message, 'Child group exceeds parent group limit.')
    assert.deepEqual(await read(leaf), leaf)
    assert.deepEqual(await read(root), root)

    await lab.ok(`PATCH ${path}/${leaf.id}`, { models: daily(100) })
    await lab.ok(`PATCH ${path}/${middle.id}`, { models: daily(100) })
    await lab.ok(`PATCH ${path}/${leaf.id}`, {
      models: [{ slug: 'org-1/other', usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 999 }] }],
    })
    await lab.ok(`PATCH ${path}/${middle.id}`, { models: daily(1) })
  })

  test('INDEPENDENT: a child may have more than its parent', async () => {
    const daily = (threshold: number) => [{ slug, usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold }] }]
    const parent = await create({ models: daily(1) })
    const bigger = await child(parent, daily(1000))
    await lab.ok(`PATCH ${path}/${bigger.id}`, { models: daily(2000) })
    await lab.ok(`PATCH ${path}/${parent.id}`, { models: daily(0) })
  })

  test('two writers that would break the tree together cannot both succeed', async () => {
    const limit = (threshold: number) => [{ slug, rate_limits: [{ type: 'TOKEN', unit: 'SECOND', threshold }] }]
    for (let round = 0; round < 5; round += 1) {
      const parent = await create({ models: limit(100), hierarchy: { limit_enforcement: 'CASCADING' } })
      const leaf = await child(parent, limit(10))
      const answers = await Promise.all([
        lab.call(`PATCH ${path}/${parent.id}`, { models: limit(20) }),
        lab.call(`PATCH ${path}/${leaf.id}`, { models: limit(90) }),
      ])
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400])
    }
  })

  test('a PATCH shows at once in the group and in everything below it', async () => {
    const limit = (threshold: number) => [{ slug, rate_limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold }] }]
    const root = await create({ models: limit(100) })
    const middle = await child(root)
    const leaf = await child(middle)
    management.changes.length = 0
    const changed = await lab.ok<Group>(`PATCH ${path}/${root.id}`, { models: limit(7) })
    assert.deepEqual(changed.models, [{ ...limit(7)[0], usage_limits: [] }])
    for (const below of [middle, leaf]) assert.deepEqual(effective(await read(below)), [`TOKEN MINUTE 7 ${root.id}`])
    const { items } = await lab.ok<Page<Group>>(`GET ${path}?external_entity_id=${leaf.metadata.external_entity_id}`)
    assert.deepEqual(items.map(effective), [[`TOKEN MINUTE 7 ${root.id}`]])
    assert.deepEqual(management.changes, [{ kind: 'group', groupId: root.id }])
  })

  test('PATCH changes the name, the whole set of models, or both', async () => {
    const group = await create({ metadata: { name: 'before' }, models: [{ slug }, { slug: 'org-1/other' }] })
    const target = `PATCH ${path}/${group.id}`
    const renamed = await lab.ok<Group>(target, { metadata: { name: 'after' } })
    assert.deepEqual(renamed, { ...group, metadata: { ...group.metadata, name: 'after' } })
    const narrowed = await lab.ok<Group>(target, { models: [{ slug: 'org-1/third' }], metadata: null })
    assert.deepEqual(
      narrowed.models.map((model) => model.slug),
      ['org-1/third'],
    )
    assert.equal(narrowed.metadata.name, 'after')
    const emptied = await lab.ok<Group>(target, { models: [], metadata: { name: null } })
    assert.deepEqual([emptied.models, emptied.effective_models, emptied.metadata.name], [[], [], null])
    assert.deepEqual(await read(group), emptied)
  })

  test('PATCH with nothing to change, or with what cannot change, is a 400', async () => {
    const group = await create()
    const target = `PATCH ${path}/${group.id}`
    for (const nothing of [
      {},
      { metadata: {} },
      { metadata: null },
      { models: null },
      { metadata: {}, models: null },
    ]) {
      await lab.invalid('', target, nothing)
    }
    const name = { name: 'new' }
    await lab.invalid('hierarchy', target, { metadata: name, hierarchy: { parent_group_id: null } })
    await lab.invalid('metadata.external_entity_id', target, { metadata: { ...name, external_entity_id: 'other' } })
    await lab.invalid('id', target, { metadata: name, id: 'other' })
    await lab.invalid('models.0.rate_limits.0.threshold', target, {
      models: [{ slug, rate_limits: [{ type: 'TOKEN', unit: 'MINUTE', threshold: -1 }] }],
    })
    assert.deepEqual(await read(group), group)
  })

  test('DELETE takes the whole subtree and its keys, and nothing beside it', async () => {
    const root = await create()
    const doomed = await child(root)
    const below = await child(await child(doomed))
    const beside = await child(root)
    const keys = await Promise.all(
      [doomed, below, beside].map((group) => lab.ok<{ prefix: string }>(`POST ${path}/${group.id}/api_keys`)),
    )
    management.changes.length = 0
    const tombstone = await lab.ok<Record<string, unknown>>(`DELETE ${path}/${doomed.id}`)
    assert.deepEqual(tombstone, { id: doomed.id, metadata: doomed.metadata, deleted_at: tombstone['deleted_at'] })
    assert.deepEqual(management.changes, [{ kind: 'group', groupId: doomed.id }])
    for (const gone of [doomed, below]) {
      await lab.refused(404, `GET ${path}/${gone.id}`)
      await lab.refused(404, `GET ${path}/${gone.id}/api_keys`)
    }
    for (const alive of [root, beside]) await read(alive)
    const rows = await management.database.queries
      .selectFrom('federated_keys')
      .select(['prefix', 'revoked_at'])
      .where(
        'prefix',
        'in',
        keys.map(({ prefix }) => prefix),
      )
      .execute()
    const isRevoked = new Map(rows.map(({ prefix, revoked_at }) => [prefix, revoked_at !== null]))
    assert.deepEqual(
      keys.map(({ prefix }) => isRevoked.get(prefix)),
      [true, true, false],
    )
    await lab.refused(404, `DELETE ${path}/${doomed.id}`)
  })

  test('the external id of a deleted group is free again, under a new id', async () => {
    const metadata = { external_entity_id: 'comes back' }
    const first = await create({ metadata })
    await lab.ok(`DELETE ${path}/${first.id}`)
    const second = await create({ metadata })
    assert.notEqual(second.id, first.id)
  })

  test('the list can be narrowed to one external id, which matches exactly', async () => {
    const group = await create({ metadata: { external_entity_id: 'ex_ct/1 %' } })
    const find = (externalId: string) =>
      lab.ok<Page<Group>>(`GET ${path}?limit=1&external_entity_id=${encodeURIComponent(externalId)}`)
    assert.deepEqual((await find('ex_ct/1 %')).items, [group])
    for (const other of ['ex_ct/1', 'EX_CT/1 %', 'ex%', 'exact/1 %']) assert.deepEqual((await find(other)).items, [])
    await lab.invalid('external_entity_id', `GET ${path}?external_entity_id=`)
  })
})

/** The effective limits of a group's first model, in short: own, or the id of the group that they come from. */
function effective({ id, effective_models: [model] }: Group): string[] {
  return [...(model?.rate_limits ?? []), ...(model?.usage_limits ?? [])].map(
    ({ type, unit, threshold, source_group }) =>
      `${type} ${unit} ${threshold} ${source_group === id ? 'own' : source_group}`,
  )
}
