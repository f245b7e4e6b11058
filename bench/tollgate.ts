import { resolve } from 'node:path'
import { freePort } from '../test/support/free-port.ts'
import { type CaseName, caseNames, cases, slugOf } from './cases.ts'
import type { Gateway, GatewayOptions } from './gateways.ts'
import { collectGarbage, start } from './processes.ts'

/** Tollgate with all of its work on: keys, a hierarchy of three levels with limits at each, reservations, the record. */
export async function startTollgate({ upstreamPort, folder }: GatewayOptions): Promise<Gateway> {
  const { manage, ...running } = await startServer({ folder })
  for (const name of caseNames) await publish(manage, { name, upstreamPort })
  const key = await customerKey(manage, { name: 'customer', requestsPerMinute: plenty })
  const refusedKey = await customerKey(manage, { name: 'refused', requestsPerMinute: 1 })
  return {
    ...running,
    name: 'tollgate',
    call: (name) => ({
      path: '/v1/chat/completions',
      headers: [{ authorization: `Bearer ${name === 'refused' ? refusedKey : key}` }],
      status: name === 'refused' ? 429 : 200,
    }),
  }
}

/** A call of the management API that must succeed. */
export type Manage = (method: 'GET' | 'POST' | 'PATCH', path: string, body?: object) => Promise<Record<string, unknown>>

/** A server on a folder of its own, with an empty workspace or what an earlier start left there. */
export async function startServer({ folder }: { folder: string }) {
  const [port, managementPort, inspectPort] = [await freePort(), await freePort(), await freePort()]
  const workspaceKey = 'wk_bench.0123456789abcdef0123456789abcdef'
  const running = await start({
    program: process.execPath,
    arguments: [`--inspect-port=${inspectPort}`, resolve(import.meta.dirname, '../src/main.ts'), 'serve'],
    environment: {
      TOLLGATE_DATA_DIR: folder,
      TOLLGATE_INFERENCE_LISTEN: `127.0.0.1:${port}`,
      TOLLGATE_MANAGEMENT_LISTEN: `127.0.0.1:${managementPort}`,
      TOLLGATE_BOOTSTRAP_KEY: workspaceKey,
      TOLLGATE_LOG_LEVEL: 'error',
    },
    port: managementPort,
  })
  const manage: Manage = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${managementPort}${path}`, {
      method,
      headers: { authorization: `Bearer ${workspaceKey}`, 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
    })
    if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${await answer.text()}`)
    return JSON.parse(await answer.text())
  }
  return { ...running, port, manage, collectGarbage: () => collectGarbage(running, inspectPort) }
}

export async function publish(manage: Manage, { name, upstreamPort }: { name: CaseName; upstreamPort: number }) {
  await manage('POST', '/v1/gateway/endpoints', {
    slug: slugOf(name),
    targets: [
      {
        provider: 'OPENAI_COMPATIBLE',
        base_url: `http://127.0.0.1:${upstreamPort}/${cases[name].upstream}/v1`,
        target_model: 'bench-model',
      },
    ],
  })
}

export const plenty = 1_000_000_000_000

/** A key of the third group of a CASCADING path, each with limits of requests, tokens and the day. */
async function customerKey(
  manage: Manage,
  { name, requestsPerMinute }: { name: string; requestsPerMinute: number },
): Promise<string> {
  let parentId: unknown = null
  for (const level of [1, 2, 3]) {
    const group = await manage('POST', '/v1/gateway/groups', {
      metadata: { external_entity_id: `${name}-${level}` },
      models: modelsWithLimits(caseNames, { requestsPerMinute: level === 3 ? requestsPerMinute : plenty }),
      hierarchy: { parent_group_id: parentId, limit_enforcement: 'CASCADING' },
    })
    parentId = group['id']
  }
  const key = await manage('POST', `/v1/gateway/groups/${parentId}/api_keys`, {})
  return String(key['api_key'])
}

/** The models of a group, each with limits of requests, tokens and the day. */
export function modelsWithLimits(
  names: readonly CaseName[],
  { requestsPerMinute }: { requestsPerMinute: number },
): object[] {
  return names.map((name) => ({
    slug: slugOf(name),
    rate_limits: [
      { type: 'REQUEST', unit: 'MINUTE', threshold: requestsPerMinute },
      { type: 'TOKEN', unit: 'MINUTE', threshold: plenty },
    ],
    usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: plenty }],
  }))
}
