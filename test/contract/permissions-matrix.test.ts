import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Holder, may, type Permission, permissions, workspaceKeyTypes } from '../../src/access/permissions.ts'
import {
  type Answer,
  type Lab,
  type Management,
  type ManagementClient,
  operations,
  startManagement,
} from '../support/management-client.ts'

type Reach = (method: string, path: string) => boolean

/** What contract §3 and §10 say of every kind of caller, as the routes that it may call; written without the table. */
const mayCall: Record<string, Reach> = {
  WORKSPACE_MANAGE_ALL: (_, path) => !isOperators(path),
  WORKSPACE_INVOKE: () => false,
  WORKSPACE_EXPORT_METRICS: (_, path) => path === '/metrics',
  WORKSPACE_MANAGE_API_KEYS: (_, path) => path.includes('/api_keys'),
  owner: (_, path) => !isOperators(path),
  admin: (_, path) => !isOperators(path),
  member: (method, path) =>
    !isOperators(path) && (method === 'GET' ? path !== '/v1/audit_logs' : path.startsWith('/v1/api_keys')),
  'WORKSPACE_MANAGE_ALL of a team': (method, path) => !isOperators(path) && !reachesBeyondTeams(method, path),
  'WORKSPACE_INVOKE of a team': () => false,
}

function isOperators(path: string): boolean {
  return path.startsWith('/v1/operator/')
}

function reachesBeyondTeams(method: string, path: string): boolean {
  const changesTeams = method !== 'GET' && /^\/v1\/teams(\/\{team_id\})?$/.test(path)
  return changesTeams || path === '/v1/audit_logs' || (path.startsWith('/v1/users') && path !== '/v1/users/me')
}

/** Routes that need no key; each must say why it does not. */
const keyless: string[] = []

describe('who may do what', () => {
  let management: Management
  let lab: Lab
  let callers: Record<string, ManagementClient>

  before(async () => {
    management = await startManagement()
    lab = await management.lab()
    callers = await oneOfEachKind()
  })
  after(() => management[Symbol.asyncDispose]())

  test('every route names a permission of the table, and every permission but those of other listeners has a route', () => {
    const named = routes().map(({ permission }) => permission)
    for (const { request, permission } of routes()) assert.ok(permissions.includes(permission), request)
    const elsewhere: Permission[] = ['inference:call', 'owners:manage']
    const withoutRoute = permissions.filter((permission) => !named.includes(permission))
    assert.deepEqual(
      withoutRoute.filter((permission) => !elsewhere.includes(permission)),
      [],
    )
  })

  test('a missing key, an unknown one and a federated one are 401 on every route, the operator key on all but its own', async () => {
    const federated = management.caller(await federatedKey())
    const answers = new Set<string>()
    for (const caller of [management.caller(null), management.caller('nobody.has-this-key-at-all'), federated]) {
      for (const { request } of routes()) {
        const answer: Answer = await caller.call(request)
        assert.equal(answer.status, 401, request)
        answers.add(JSON.stringify([answer.headers.get('www-authenticate'), answer.body]))
      }
    }
    assert.equal(answers.size, 1)
    for (const { request, path } of routes()) {
      const { status } = await management.operator.call(request)
      assert.equal(status === 401, !isOperators(path), request)
      assert.notEqual(status, 403, request)
    }
  })

  test('every kind of key gets 403 on exactly the routes that the contract and the table deny it', async () => {
    for (const [kind, reach] of Object.entries(mayCall)) {
      const caller = callers[kind]
      assert.ok(caller, kind)
      const holder = kind.replace(' of a team', '') as Holder
      const teamId = kind.endsWith(' of a team') ? 'a team' : null
      for (const { request, method, path, permission } of routes()) {
        const { status }: Answer = await caller.call(request)
        assert.notEqual(status, 401, `${kind}: ${request}`)
        assert.equal(status !== 403, reach(method, path), `${kind}: ${request}`)
        assert.equal(may({ holder, teamId }, permission), reach(method, path), `${kind}: ${permission}`)
      }
    }
  })

  test('nobody mints a key that may call what their own may not', async () => {
    const environments = ['staging']
    const wanted: Record<string, object> = {
      ...Object.fromEntries(workspaceKeyTypes.map((type) => [type, { type }])),
      'of an owner': { type: 'PERSONAL', ...(await person('owner')) },
      'of an admin': { type: 'PERSONAL', ...(await person('admin')) },
      'of a member': { type: 'PERSONAL', ...(await person('member')) },
      'full, in staging': { type: 'WORKSPACE_MANAGE_ALL', environments },
      'invoke, in staging': { type: 'WORKSPACE_INVOKE', environments },
      'invoke, in two': { type: 'WORKSPACE_INVOKE', environments: ['production', 'staging'] },
    }
    const inStaging = management.caller(await mintWith(lab, { type: 'WORKSPACE_MANAGE_ALL', environments }))
    const minted: Record<string, string[]> = {}
    for (const [kind, caller] of Object.entries({ ...callers, 'full, in staging': inStaging })) {
      const own = await reachOf(caller)
      minted[kind] = []
      for (const [name, body] of Object.entries(wanted)) {
        const answer: Answer<{ api_key: string }> = await caller.call('POST /v1/api_keys', body)
        if (answer.status === 403) continue
        assert.equal(answer.status, 200, JSON.stringify(answer.body))
        minted[kind].push(name)
        const theirs = await reachOf(management.caller(answer.body.api_key))
        const more = [...theirs].filter((request) => !own.has(request))
        assert.deepEqual(more, [], `${kind} minted ${name}`)
      }
    }
    const all = Object.keys(wanted)
    const atMostAdmin = all.filter(
      (name) => !['WORKSPACE_MANAGE_ALL', 'of an owner', 'full, in staging'].includes(name),
    )
    assert.deepEqual(minted, {
      WORKSPACE_MANAGE_ALL: all,
      WORKSPACE_INVOKE: [],
      WORKSPACE_EXPORT_METRICS: [],
      WORKSPACE_MANAGE_API_KEYS: ['WORKSPACE_MANAGE_API_KEYS'],
      owner: all,
      admin: atMostAdmin,
      member: ['PERSONAL'],
      'WORKSPACE_MANAGE_ALL of a team': all.filter((name) => name !== 'PERSONAL' && !name.startsWith('of a')),
      'WORKSPACE_INVOKE of a team': [],
      'full, in staging': [
        'WORKSPACE_EXPORT_METRICS',
        'WORKSPACE_MANAGE_API_KEYS',
        'full, in staging',
        'invoke, in staging',
      ],
    })
  })

  /** Every route of the published document but the keyless ones. */
  function routes() {
    return operations(management).flatMap(({ request, method, path }) => {
      const operation = management.schemas.document.paths[path]?.[method.toLowerCase()]
      if (keyless.includes(`${method} ${path}`)) return []
      return [{ request, method, path, permission: operation?.['x-permission'] as Permission }]
    })
  }

  async function oneOfEachKind(): Promise<Record<string, ManagementClient>> {
    const team = await lab.ok<{ id: string }>('POST /v1/teams', { name: 'a team' })
    const kinds = await Promise.all(
      Object.keys(mayCall).map(async (kind) => {
        const type = kind.replace(' of a team', '')
        const path = kind.endsWith(' of a team') ? `/v1/teams/${team.id}/api_keys` : '/v1/api_keys'
        const body = type === type.toLowerCase() ? { type: 'PERSONAL', ...(await person(type)) } : { type }
        return [kind, management.caller(await mintWith(lab, body, path))] as const
      }),
    )
    return Object.fromEntries(kinds)
  }

  async function mintWith(caller: ManagementClient, body: object, path = '/v1/api_keys'): Promise<string> {
    return (await caller.ok<{ api_key: string }>(`POST ${path}`, body)).api_key
  }

  let people = 0
  async function person(role: string): Promise<{ user_id: string }> {
    people += 1
    const { id } = await lab.ok<{ id: string }>('POST /v1/users', { email: `${role}-${people}@example.com`, role })
    return { user_id: id }
  }

  /** The requests that a key may make, as the server judges them. */
  async function reachOf(caller: ManagementClient): Promise<Set<string>> {
    const reach = new Set<string>()
    for (const { request } of routes()) if ((await caller.call(request)).status !== 403) reach.add(request)
    return reach
  }

  async function federatedKey(): Promise<string> {
    const group = await lab.ok<{ id: string }>('POST /v1/gateway/groups', {
      metadata: { external_entity_id: 'customer' },
      models: [{ slug: 'a/b' }],
      hierarchy: {},
    })
    return (await lab.ok<{ api_key: string }>(`POST /v1/gateway/groups/${group.id}/api_keys`)).api_key
  }
})
