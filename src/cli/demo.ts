import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mintKey } from '../access/api-key.ts'
import { systemClock } from '../clock.ts'
import type { Config } from '../config.ts'
import { startDemoModel } from '../demo/demo-model.ts'
import { type RunningServer, serve } from '../serve.ts'

const slug = 'demo/parrot'

export interface RunningDemo extends AsyncDisposable {
  server: RunningServer
  /** What to paste into a terminal. */
  instructions: string
}

/**
 * A whole installation to try: the demo model, and a server whose state lives in a temporary folder, with an
 * endpoint, a plan with a customer under it, and a key. Everything is set up through the management API, as a
 * lab would do it. Disposing of it leaves nothing behind.
 */
export async function startDemo(config: Config): Promise<RunningDemo> {
  await using started = new AsyncDisposableStack()
  const dataDir = await mkdtemp(join(tmpdir(), 'tollgate-demo-'))
  started.defer(() => rm(dataDir, { recursive: true, force: true }))
  const model = started.use(await startDemoModel({ clock: systemClock }))
  const workspaceKey = mintKey('wk_').key
  const server = started.use(await serve({ ...config, databaseUrl: null, dataDir, bootstrapKey: workspaceKey }))
  const { groupId, customerKey } = await setUp(server, { workspaceKey, modelUrl: model.baseUrl })

  const parts = started.move()
  return {
    server,
    instructions: instructions(server, { workspaceKey, groupId, customerKey }),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

async function setUp(
  { management }: RunningServer,
  { workspaceKey, modelUrl }: { workspaceKey: string; modelUrl: string },
): Promise<{ groupId: string; customerKey: string }> {
  const post = async (path: string, body: object): Promise<Record<string, string>> => {
    const response = await fetch(`${management}${path}`, {
      method: 'POST',
      headers: { authorization: `Api-Key ${workspaceKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`POST ${path} answered ${response.status}: ${await response.text()}`)
    return (await response.json()) as Record<string, string>
  }
  const limits = (requestsAMinute: number) => [
    {
      slug,
      rate_limits: [
        { type: 'REQUEST', unit: 'MINUTE', threshold: requestsAMinute },
        { type: 'TOKEN', unit: 'MINUTE', threshold: requestsAMinute * 1_000 },
      ],
      usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 1_000_000 }],
    },
  ]

  const model = await post('/v1/models', {
    name: 'parrot',
    environments: [{ name: 'production', base_url: modelUrl }],
  })
  await post('/v1/gateway/endpoints', {
    slug,
    targets: [{ provider: 'SELF_HOSTED', model_id: model['id'], target_model: 'parrot-1' }],
  })
  const plan = await post('/v1/gateway/groups', {
    metadata: { name: 'Starter plan', external_entity_id: 'plan_starter' },
    models: limits(60),
    hierarchy: { limit_enforcement: 'CASCADING' },
  })
  const customer = await post('/v1/gateway/groups', {
    metadata: { name: 'Acme', external_entity_id: 'cust_42' },
    models: limits(20),
    hierarchy: { parent_group_id: plan['id'] },
  })
  const key = await post(`/v1/gateway/groups/${customer['id']}/api_keys`, { name: 'demo' })
  return { groupId: String(customer['id']), customerKey: String(key['api_key']) }
}

function instructions(
  { inference, management }: RunningServer,
  { workspaceKey, groupId, customerKey }: { workspaceKey: string; groupId: string; customerKey: string },
): string {
  const body = JSON.stringify({
    model: slug,
    stream: true,
    messages: [{ role: 'user', content: 'What is a tollgate?' }],
  })
  return `
The customer calls the model (Acme: 20 requests a minute, under a plan with 60):

  curl -N ${inference}/v1/chat/completions \\
    -H 'Authorization: Bearer ${customerKey}' -H 'Content-Type: application/json' \\
    -d '${body}'

The lab looks at what Acme used today, and at its limits:

  curl ${management}/v1/gateway/groups/${groupId}/usage -H 'Authorization: Api-Key ${workspaceKey}'
  curl ${management}/v1/gateway/groups/${groupId} -H 'Authorization: Api-Key ${workspaceKey}'

The API reference: ${management}/docs. Stop with Ctrl-C; nothing is kept.

`
}
