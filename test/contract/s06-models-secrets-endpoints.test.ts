import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { SecretBox } from '../../src/storage/secret-box.ts'
import { type ErrorBody, type Lab, type Management, type Page, startManagement } from '../support/management-client.ts'

interface Model {
  id: string
  name: string
  environments: { name: string; base_url: string; secret_id: string | null }[]
}

interface Secret {
  id: string
  name: string
  team_name: string
  created_at: string
}

interface Target {
  provider: string
  model_id: string | null
  environment_name: string | null
  target_model: string | null
  base_url: string | null
  secret_id: string | null
  vertex_config: object | null
}

interface Endpoint {
  id: string
  slug: string
  region: string
  targets: Target[]
  created_at: string
  updated_at: string
}

const base_url = 'http://127.0.0.1:8080/v1'

describe('models, secrets and endpoints', () => {
  let management: Management
  let lab: Lab
  let secret: Secret
  let model: Model

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
    secret = await lab.ok('POST /v1/secrets', { name: 'upstream', value: 'sk-123' })
    model = await lab.ok('POST /v1/models', {
      name: 'Llama',
      environments: [
        { name: 'production', base_url, secret_id: secret.id },
        { name: 'staging', base_url: 'https://staging.example.com/v1' },
      ],
    })
  })
  after(() => management[Symbol.asyncDispose]())

  describe('models', () => {
    test('a model is read back as it was registered', async () => {
      assert.deepEqual(
        model.environments.map(({ name, secret_id }) => [name, secret_id]),
        [
          ['production', secret.id],
          ['staging', null],
        ],
      )
      assert.deepEqual(await lab.ok(`GET /v1/models/${model.id}`), model)
      const { models } = await lab.ok<{ models: Model[] }>('GET /v1/models')
      assert.deepEqual(models, [model])
    })

    test('a model needs a production environment, and each environment once', async () => {
      await lab.invalid('environments', 'POST /v1/models', { name: 'm', environments: [] })
      await lab.invalid('environments', 'POST /v1/models', {
        name: 'm',
        environments: [{ name: 'staging', base_url }],
      })
      await lab.invalid('environments.1', 'POST /v1/models', {
        name: 'm',
        environments: [
          { name: 'production', base_url },
          { name: 'production', base_url },
        ],
      })
    })

    test('an environment that names a secret which is not there is a 400 that names it', async () => {
      const other = await management.lab()
      const foreign = await other.ok<Secret>('POST /v1/secrets', { name: 'a', value: 'b' })
      for (const secret_id of ['nowhere', foreign.id]) {
        await lab.invalid('environments.0.secret_id', 'POST /v1/models', {
          name: 'm',
          environments: [{ name: 'production', base_url, secret_id }],
        })
      }
    })

    test('an upstream URL is http or https, bare, and ends before /chat/completions', async () => {
      const refused = [
        'ftp://example.com',
        'example.com/v1',
        '/v1',
        '',
        'http://user:password@example.com/v1',
        'http://user@example.com/v1',
        'http://example.com/v1?key=1',
        'http://example.com/v1?',
        'http://example.com/v1#top',
        'http://example.com/v1/chat/completions',
        'http://example.com/v1/chat/completions/',
        'file:///etc/passwd',
      ]
      for (const url of refused) await refusedUrl(url)
      for (const url of ['http://example.com', 'https://example.com:8443/a/v1/', 'http://[::1]:8080/v1']) {
        const environments = [{ name: 'production', base_url: url }]
        const taken = await lab.ok<Model>('POST /v1/models', { name: 'm', environments })
        assert.equal(taken.environments[0]?.base_url, url)
        await lab.ok(`DELETE /v1/models/${taken.id}`)
      }
    })

    test('link-local and cloud-metadata addresses are refused in every spelling', async () => {
      const refused = [
        'http://169.254.169.254/v1',
        'http://169.254.0.1/v1',
        'http://2852039166/v1',
        'http://0xa9fea9fe/v1',
        'http://0251.0376.0251.0376/v1',
        'http://169.254.169.254./v1',
        'http://[fe80::1]/v1',
        'http://[febf::1]/v1',
        'http://[::ffff:169.254.169.254]/v1',
        'http://[::ffff:a9fe:a9fe]/v1',
        'http://[::169.254.169.254]/v1',
        'http://[::ffff:0:169.254.169.254]/v1',
        'http://[::ffff:0:100.100.100.200]/v1',
        'http://[64:ff9b::169.254.169.254]/v1',
        'http://[64:ff9b:1::169.254.169.254]/v1',
        'http://[64:ff9b:1:2:3:4:169.254.169.254]/v1',
        'http://[64:ff9b:1:a9fe:a9:fe00::]/v1',
        'http://[64:ff9b:1:2a9:fe:a9fe::]/v1',
        'http://[64:ff9b:1:2:a9:fea9:fe00:0]/v1',
        'http://[2002:a9fe:a9fe::]/v1',
        'http://[fd00:ec2::254]/v1',
        'http://100.100.100.200/v1',
        'http://168.63.129.16/v1',
        'http://192.0.0.192/v1',
        'http://metadata.google.internal/v1',
        'http://METADATA.google.internal./v1',
        'http://metadata/v1',
      ]
      for (const url of refused) await refusedUrl(url)
      for (const base_url of [
        'http://[::ffff:0:10.0.0.1]/v1',
        'http://[64:ff9b::10.0.0.1]/v1',
        'http://[64:ff9b:1::10.0.0.1]/v1',
        'http://[64:ff9b:1:a00:0:100::]/v1',
        'http://[2001:db8::169.254.169.254]/v1',
      ]) {
        const { id } = await lab.ok<Model>('POST /v1/models', {
          name: 'translated',
          environments: [{ name: 'production', base_url }],
        })
        await lab.ok(`DELETE /v1/models/${id}`)
      }
    })

    test('PATCH changes what it names and nothing else', async () => {
      const before: Model = await lab.ok('POST /v1/models', {
        name: 'before',
        environments: [{ name: 'production', base_url }],
      })
      management.changes.length = 0
      const renamed: Model = await lab.ok(`PATCH /v1/models/${before.id}`, { name: 'after' })
      assert.deepEqual([renamed.name, renamed.environments], ['after', before.environments])
      const environments = [{ name: 'production', base_url: 'http://10.0.0.1/v1', secret_id: secret.id }]
      const moved: Model = await lab.ok(`PATCH /v1/models/${before.id}`, { environments })
      assert.deepEqual([moved.name, moved.environments], ['after', environments])
      await lab.invalid('environments', `PATCH /v1/models/${before.id}`, { environments: [] })
      await lab.invalid('id', `PATCH /v1/models/${before.id}`, { id: 'other' })
      assert.deepEqual(management.changes, [routing(lab), routing(lab)])
    })

    test('a model that an endpoint uses can neither be deleted nor lose the environment used', async () => {
      const used: Model = await lab.ok('POST /v1/models', {
        name: 'used',
        environments: [
          { name: 'production', base_url },
          { name: 'canary', base_url },
        ],
      })
      const endpoint: Endpoint = await lab.ok('POST /v1/gateway/endpoints', {
        slug: `${lab.orgPrefix}/in-use`,
        targets: [{ provider: 'BASETEN', model_id: used.id, environment_name: 'canary' }],
      })
      const conflict = await lab.refused(409, `DELETE /v1/models/${used.id}`)
      assert.equal(conflict.code, 'CONFLICT')
      const environments = [{ name: 'production', base_url }]
      await lab.invalid('environments', `PATCH /v1/models/${used.id}`, { environments })
      await lab.ok(`DELETE /v1/gateway/endpoints/${endpoint.id}`)
      management.changes.length = 0
      const tombstone = await lab.ok<Model>(`DELETE /v1/models/${used.id}`)
      assert.equal(tombstone.id, used.id)
      assert.deepEqual(management.changes, [routing(lab)])
      await lab.refused(404, `GET /v1/models/${used.id}`)
    })

    async function refusedUrl(url: string): Promise<void> {
      const environments = [{ name: 'production', base_url: url }]
      await lab.invalid('environments.0.base_url', 'POST /v1/models', { name: 'm', environments })
      const targets = [{ provider: 'OPENAI_COMPATIBLE', base_url: url, target_model: 'm' }]
      await lab.invalid('targets.0.base_url', 'POST /v1/gateway/endpoints', { slug: `${lab.orgPrefix}/x`, targets })
    }
  })

  describe('secrets', () => {
    test('no answer and no row holds a value', async () => {
      const value = 'sk-very-secret-value'
      const stored = await lab.call('POST /v1/secrets', { name: 'hidden', value })
      const listed = await lab.call('GET /v1/secrets')
      assert.doesNotMatch(JSON.stringify([stored.body, listed.body]), /very-secret/)
      const row = await management.database.queries
        .selectFrom('secrets')
        .selectAll()
        .where('name', '=', 'hidden')
        .executeTakeFirstOrThrow()
      assert.doesNotMatch(Buffer.from(row.sealed_value, 'base64').toString('latin1'), /very-secret/)
      const box = new SecretBox(Buffer.alloc(32, 7))
      assert.throws(() => box.open(row.sealed_value, 'something else'))
    })

    test('POST replaces the value of a name that is there, and keeps its id', async () => {
      const first: Secret = await lab.ok('POST /v1/secrets', { name: 'rotated', value: 'one' })
      const sealed = () =>
        management.database.queries
          .selectFrom('secrets')
          .select('sealed_value')
          .where('id', '=', first.id)
          .executeTakeFirst()
      const before = await sealed()
      management.changes.length = 0
      assert.deepEqual(await lab.ok('POST /v1/secrets', { name: 'rotated', value: 'two' }), first)
      assert.notDeepEqual(await sealed(), before)
      assert.deepEqual(management.changes, [routing(lab)])
      assert.equal(first.team_name, 'Default')
    })

    test('a name is taken per workspace: another lab may have the same', async () => {
      const other = await management.lab()
      const theirs: Secret = await other.ok('POST /v1/secrets', { name: 'upstream', value: 'theirs' })
      assert.notEqual(theirs.id, secret.id)
      const { secrets } = await other.ok<{ secrets: Secret[] }>('GET /v1/secrets')
      assert.deepEqual(secrets, [theirs])
    })

    test('DELETE answers with the name, and a second time with 404', async () => {
      await lab.ok('POST /v1/secrets', { name: 'short-lived', value: 'x' })
      management.changes.length = 0
      assert.deepEqual(await lab.ok('DELETE /v1/secrets/short-lived'), { name: 'short-lived' })
      assert.deepEqual(management.changes, [routing(lab)])
      await lab.refused(404, 'DELETE /v1/secrets/short-lived')
    })

    test('a name is URL-safe, so that DELETE can name it, a value not empty', async () => {
      for (const name of ['', 'a b', 'a/b', 'ä', '.', '..', 'x'.repeat(101)]) {
        await lab.invalid('name', 'POST /v1/secrets', { name, value: 'x' })
      }
      await lab.invalid('value', 'POST /v1/secrets', { name: 'a', value: '' })
      await lab.invalid('value', 'POST /v1/secrets', { name: 'a' })
      for (const name of ['.env', 'a..b', '~']) {
        await lab.ok('POST /v1/secrets', { name, value: 'x' })
        await lab.ok(`DELETE /v1/secrets/${name}`)
      }
    })

    test('a value is one that a header can carry: others are a 400 that says what to leave out', async () => {
      const { id } = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'sends' })
      for (const value of ['sk-1\n', 'sk-1\r\n', 'sk\n1', 'sk\u00001', 'sk\u007f', 'sk-1\u2028', 'sk-ключ']) {
        for (const path of ['/v1/secrets', `/v1/teams/${id}/secrets`]) {
          const { details = [] } = await lab.invalid('value', `POST ${path}`, { name: 'a', value })
          assert.match(String(details[0]?.message), /leave out line feeds/)
        }
      }
      for (const value of ['{"type": "service_account"}', ' sk-1\t', 'clé', 'x'.repeat(65_536)]) {
        await lab.ok('POST /v1/secrets', { name: 'sent', value })
      }
    })
  })

  describe('endpoints', () => {
    let slugs = 0
    const freshSlug = () => {
      slugs += 1
      return `${lab.orgPrefix}/slug-${slugs}`
    }
    const create = (targets: object[], fields: object = {}) =>
      lab.ok<Endpoint>('POST /v1/gateway/endpoints', { slug: freshSlug(), targets, ...fields })

    const nothing = {
      model_id: null,
      environment_name: null,
      target_model: null,
      base_url: null,
      secret_id: null,
      vertex_config: null,
    }
    const vertex_config = { project_id: 'acme-prod', location: 'europe-west4' }

    test('each provider takes its own fields, and a read shows all others as null', async () => {
      const secret_id = secret.id
      const targets = [
        { provider: 'SELF_HOSTED', model_id: model.id, environment_name: 'staging', target_model: 'llama' },
        { provider: 'BASETEN', model_id: model.id },
        { provider: 'OPENAI', secret_id, target_model: 'gpt' },
        { provider: 'ANTHROPIC', secret_id, target_model: 'claude' },
        { provider: 'OPENAI_COMPATIBLE', base_url, target_model: 'x', secret_id },
        { provider: 'OPENAI_COMPATIBLE', base_url, target_model: 'x' },
        { provider: 'VERTEX', vertex_config, secret_id, target_model: 'gemini' },
      ]
      for (const target of targets) {
        const created = await create([target])
        assert.deepEqual(created.targets, [{ ...nothing, ...target }])
        assert.deepEqual(await lab.ok(`GET /v1/gateway/endpoints/${created.id}`), created)
      }
    })

    test('a field that a provider needs or does not take is a 400 that names it', async () => {
      const secret_id = secret.id
      const refused: [string, Record<string, unknown>][] = [
        ['model_id', { provider: 'SELF_HOSTED' }],
        ['base_url', { provider: 'SELF_HOSTED', model_id: model.id, base_url }],
        ['secret_id', { provider: 'BASETEN', model_id: model.id, secret_id }],
        ['secret_id', { provider: 'OPENAI', target_model: 'gpt' }],
        ['target_model', { provider: 'OPENAI', secret_id }],
        ['model_id', { provider: 'OPENAI', secret_id, target_model: 'gpt', model_id: model.id }],
        ['base_url', { provider: 'ANTHROPIC', secret_id, target_model: 'claude', base_url }],
        ['environment_name', { provider: 'ANTHROPIC', secret_id, target_model: 'c', environment_name: 'staging' }],
        ['base_url', { provider: 'OPENAI_COMPATIBLE', target_model: 'x' }],
        ['vertex_config', { provider: 'OPENAI_COMPATIBLE', base_url, target_model: 'x', vertex_config }],
        ['vertex_config', { provider: 'VERTEX', secret_id, target_model: 'gemini' }],
        ['base_url', { provider: 'VERTEX', vertex_config, secret_id, target_model: 'gemini', base_url }],
        ['provider', { provider: 'BASETEN_MODEL_API', model_id: model.id }],
        ['provider', { model_id: model.id }],
        ['weight', { provider: 'BASETEN', model_id: model.id, weight: 1 }],
      ]
      for (const [field, target] of refused) {
        const body = { slug: freshSlug(), targets: [{ provider: 'BASETEN', model_id: model.id }, target] }
        await lab.invalid(`targets.1.${field}`, 'POST /v1/gateway/endpoints', body)
      }
    })

    test('a field that is null counts as left out', async () => {
      const created = await create([{ ...nothing, provider: 'BASETEN', model_id: model.id }])
      assert.deepEqual(created.targets, [{ ...nothing, provider: 'BASETEN', model_id: model.id }])
    })

    test('the production environment is the same as none', async () => {
      const created = await create([{ provider: 'BASETEN', model_id: model.id, environment_name: 'production' }])
      assert.equal(created.targets[0]?.environment_name, null)
    })

    test('a model, environment or secret that is not there is a 400 that names it', async () => {
      const other = await management.lab()
      const foreignSecret: Secret = await other.ok('POST /v1/secrets', { name: 'a', value: 'b' })
      const foreignModel: Model = await other.ok('POST /v1/models', {
        name: 'm',
        environments: [{ name: 'production', base_url }],
      })
      const refused: [string, object, string][] = [
        ['model_id', { provider: 'BASETEN', model_id: 'nowhere' }, 'nowhere'],
        ['model_id', { provider: 'BASETEN', model_id: foreignModel.id }, foreignModel.id],
        ['environment_name', { provider: 'BASETEN', model_id: model.id, environment_name: 'canary' }, 'canary'],
        ['secret_id', { provider: 'OPENAI', secret_id: 'gone', target_model: 'x' }, 'gone'],
        ['secret_id', { provider: 'OPENAI', secret_id: foreignSecret.id, target_model: 'x' }, foreignSecret.id],
      ]
      for (const [field, target, named] of refused) {
        const body = { slug: freshSlug(), targets: [target] }
        const { message } = await lab.invalid(`targets.0.${field}`, 'POST /v1/gateway/endpoints', body)
        assert.ok(message.includes(named), message)
      }
    })

    test('there are 1 to 5 targets, kept in their order', async () => {
      const target = (name: string) => ({ provider: 'OPENAI_COMPATIBLE', base_url, target_model: name })
      for (const targets of [[], ['1', '2', '3', '4', '5', '6'].map(target)]) {
        await lab.invalid('targets', 'POST /v1/gateway/endpoints', { slug: freshSlug(), targets })
      }
      const created = await create(['b', 'a', 'e', 'd', 'c'].map(target))
      assert.deepEqual(
        created.targets.map(({ target_model }) => target_model),
        ['b', 'a', 'e', 'd', 'c'],
      )
      await lab.invalid('targets', `PATCH /v1/gateway/endpoints/${created.id}`, { targets: [] })
    })

    test('a slug is two URL-safe segments', async () => {
      const { orgPrefix } = lab
      const slugs = [orgPrefix, `${orgPrefix}/`, `/${orgPrefix}`, `${orgPrefix}/a/b`, `${orgPrefix}/a b`, '']
      for (const slug of [
        ...slugs,
        `${orgPrefix}/ä`,
        `${orgPrefix}/..`,
        `./a`,
        `${orgPrefix}/a?b`,
        `${orgPrefix}/%41`,
      ]) {
        const targets = [{ provider: 'BASETEN', model_id: model.id }]
        await lab.invalid('slug', 'POST /v1/gateway/endpoints', { slug, targets })
      }
      await create([{ provider: 'BASETEN', model_id: model.id }], { slug: `${orgPrefix}/Llama-3.1_8b~it` })
    })

    test("a slug's prefix is the workspace's own, or nobody's where it may use any", async () => {
      const any = await management.lab({ org_prefixes: ['*'] })
      const target = { provider: 'OPENAI_COMPATIBLE', base_url, target_model: 'x' }
      const claim = (slug: string) => ({ slug, targets: [target] })
      await lab.invalid('slug', 'POST /v1/gateway/endpoints', claim('strange/model'))
      await any.invalid('slug', 'POST /v1/gateway/endpoints', claim(`${lab.orgPrefix}/model`))
      const { id } = await any.ok<Endpoint>('POST /v1/gateway/endpoints', claim('strange/model'))
      await any.invalid('slug', `PATCH /v1/gateway/endpoints/${id}`, { slug: `${lab.orgPrefix}/model` })
    })

    test('a slug is taken once in the installation, and free again once its endpoint is gone', async () => {
      const any = await management.lab({ org_prefixes: ['*'] })
      const too = await management.lab({ org_prefixes: ['*'] })
      const body = { slug: 'common/slug', targets: [{ provider: 'OPENAI_COMPATIBLE', base_url, target_model: 'x' }] }
      const first = await any.ok<Endpoint>('POST /v1/gateway/endpoints', body)
      for (const caller of [any, too]) await caller.invalid('slug', 'POST /v1/gateway/endpoints', body)
      assert.deepEqual(await any.ok(`DELETE /v1/gateway/endpoints/${first.id}`), { id: first.id, slug: first.slug })
      await any.refused(404, `GET /v1/gateway/endpoints/${first.id}`)
      await too.ok('POST /v1/gateway/endpoints', body)
    })

    test('of writers that claim one slug at the same moment, one gets it', async () => {
      const slug = freshSlug()
      const targets = [{ provider: 'BASETEN', model_id: model.id }]
      const answers = await Promise.all(
        Array.from({ length: 5 }, () => lab.call<ErrorBody>('POST /v1/gateway/endpoints', { slug, targets })),
      )
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400, 400, 400, 400])
    })

    test('PATCH changes the slug, the targets or both, and nothing else', async () => {
      const created = await create([{ provider: 'BASETEN', model_id: model.id }], { region: 'EU' })
      const path = `/v1/gateway/endpoints/${created.id}`
      const taken = await create([{ provider: 'BASETEN', model_id: model.id }])
      management.changes.length = 0
      const slug = freshSlug()
      const moved: Endpoint = await lab.ok(`PATCH ${path}`, { slug })
      assert.deepEqual(moved, { ...created, slug, updated_at: moved.updated_at })
      const targets = [{ provider: 'SELF_HOSTED', model_id: model.id, environment_name: 'staging' }]
      const retargeted: Endpoint = await lab.ok(`PATCH ${path}`, { targets })
      assert.deepEqual(retargeted.targets, [{ ...nothing, ...targets[0] }])
      assert.deepEqual(management.changes, [routing(lab), routing(lab)])
      assert.deepEqual(await lab.ok(`GET ${path}`), retargeted)
      await lab.invalid('slug', `PATCH ${path}`, { slug: taken.slug })
      await lab.ok(`PATCH ${path}`, { slug, targets: null })
      await lab.invalid('region', `PATCH ${path}`, { region: 'UNRESTRICTED' })
      await lab.invalid('targets.0.model_id', `PATCH ${path}`, { targets: [{ provider: 'BASETEN', model_id: 'x' }] })
    })

    test('the region is UNRESTRICTED unless it is EU', async () => {
      const target = { provider: 'BASETEN', model_id: model.id }
      assert.equal((await create([target])).region, 'UNRESTRICTED')
      assert.equal((await create([target], { region: 'EU' })).region, 'EU')
      await lab.invalid('region', 'POST /v1/gateway/endpoints', { slug: freshSlug(), targets: [target], region: 'US' })
    })

    test("the list holds a workspace's own endpoints only", async () => {
      const other = await management.lab({ org_prefixes: ['elsewhere'] })
      const target = { provider: 'OPENAI_COMPATIBLE', base_url, target_model: 'x' }
      const theirs = await other.ok<Endpoint>('POST /v1/gateway/endpoints', { slug: 'elsewhere/a', targets: [target] })
      const { items } = await other.ok<Page<Endpoint>>('GET /v1/gateway/endpoints')
      assert.deepEqual(items, [theirs])
    })
  })
})

function routing({ workspaceId }: Lab) {
  return { kind: 'routing', workspaceId }
}
