import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { mintKey } from '../src/access/api-key.ts'
import { newId } from '../src/id.ts'
import { type Database, openEmbeddedDatabase } from '../src/storage/database.ts'
import { embeddedDatabasePath } from '../src/storage/open-database.ts'
import type { FederatedKeyRow, GroupRow } from '../src/storage/tables.ts'
import { bodyOf, cases } from './cases.ts'
import { inTurn } from './in-turn.ts'
import { type LoadResult, load } from './load.ts'
import type { Measured, Rig } from './measure.ts'
import { type Running, settled } from './processes.ts'
import { type Manage, modelsWithLimits, plenty, publish, startServer } from './tollgate.ts'

interface StoreSize {
  title: string
  /** Customers in the store: a group of the third level each, with a key. */
  customers: number
  /** How many of them call, drawn at random for each request. */
  callers: number
}

/** The directory of `src/directory/` keeps copies of 100,000 keys and as many groups; the last size is beyond that. */
export const storeSizes: readonly StoreSize[] = [
  { title: '10 groups and keys', customers: 10, callers: 10 },
  { title: '1,000', customers: 1_000, callers: 1_000 },
  { title: '100,000, of which 64 call', customers: 100_000, callers: 64 },
  { title: '100,000, all call at random', customers: 100_000, callers: 100_000 },
  { title: '200,000, all call at random', customers: 200_000, callers: 200_000 },
]

/** CPU time of a small JSON request with more and more groups and keys in the store. */
export async function measureStoreSizes(rig: Rig): Promise<Measured[]> {
  await using opened = new AsyncDisposableStack()
  const servers: SizedServer[] = []
  for (const size of storeSizes) {
    rig.say(`starting Tollgate with a store of ${size.title}`)
    servers.push(opened.use(await startSized(size, rig)))
  }

  const measured: Measured[] = []
  for (let round = 1; round <= rig.pace.rounds; round++) {
    rig.say(`round ${round}: size of the store`)
    for (const server of inTurn(servers, round)) measured.push(await measureSized(server, rig))
  }
  return measured
}

export interface SizedServer extends Running {
  size: StoreSize
  port: number
  manage: Manage
  /** Of those that call. */
  keys: readonly string[]
}

/** A server with that many customers, each of whom has called before. */
export async function startSized(size: StoreSize, rig: Rig): Promise<SizedServer> {
  const folder = mkdtempSync(join(rig.folder, 'store-'))
  await using emptyServer = await startServer({ folder })
  await publish(emptyServer.manage, { name: 'json', upstreamPort: rig.upstreamPort })
  await emptyServer[Symbol.asyncDispose]()

  await using database = await openEmbeddedDatabase(embeddedDatabasePath(folder))
  const keys = (await addCustomers(database, size.customers)).slice(0, size.callers)

  const running = await startServer({ folder })
  const server = { ...running, size, keys }
  const secondsForAll = size.callers / 2_500
  await callSized(server, { keys, seconds: Math.max(secondsForAll, rig.pace.warmUpSeconds) }, rig)
  return server
}

async function measureSized(server: SizedServer, rig: Rig): Promise<Measured> {
  const keys = Array.from({ length: 100_000 }, () => drawn(server.keys))
  await settled(server)
  const before = server.cpuSeconds()
  const { answered } = await callSized(server, { keys, seconds: rig.pace.seconds }, rig)
  await settled(server)
  const cpuUs = ((server.cpuSeconds() - before) * 1e6) / answered
  return { what: 'cpuUs', of: server.size.title, who: 'tollgate', value: cpuUs }
}

interface SizedCall {
  keys: readonly string[]
  seconds: number
  /** Left out: each connection calls again as soon as it has its answer. */
  rate?: number | null
}

/** Calls with these keys in turn. */
export function callSized(
  { port }: SizedServer,
  { keys, seconds, rate = cases.json.rate }: SizedCall,
  rig: Rig,
): Promise<LoadResult> {
  const headers = keys.map((key) => ({ authorization: `Bearer ${key}` }))
  const request = { port, path: '/v1/chat/completions', headers, body: bodyOf('json'), status: 200 }
  return load({ ...cases.json, ...request, seconds, rate }, rig)
}

function drawn(keys: readonly string[]): string {
  return String(keys[Math.floor(Math.random() * keys.length)])
}

/** Fills the store of a server that does not run, as the management API would: trees of three levels. Returns the keys. */
async function addCustomers(database: Database, count: number): Promise<string[]> {
  const { queries } = database
  const workspace = await queries.selectFrom('workspaces').select(['id', 'key_prefix']).executeTakeFirstOrThrow()
  const root = groupRow({ workspaceId: workspace.id, name: 'root', parentPath: [] })
  const middles = Array.from({ length: Math.ceil(count / 100) }, (_value, index) =>
    groupRow({ workspaceId: workspace.id, name: `middle-${index}`, parentPath: [root.id] }),
  )
  const keys: string[] = []
  await database.transaction(async ({ queries }) => {
    await queries.insertInto('groups').values(root).execute()
    for (const middle of middles) {
      const customers = Array.from({ length: Math.min(100, count - keys.length) }, (_value, index) => {
        const name = `${middle.name}-customer-${index}`
        const group = groupRow({ workspaceId: workspace.id, name, parentPath: [middle.id, root.id] })
        const minted = mintKey(workspace.key_prefix)
        keys.push(minted.key)
        return { group, key: keyRow(group, minted) }
      })
      await queries
        .insertInto('groups')
        .values([middle, ...customers.map(({ group }) => group)])
        .execute()
      await queries
        .insertInto('federated_keys')
        .values(customers.map(({ key }) => key))
        .execute()
    }
  })
  return keys
}

function groupRow({
  workspaceId,
  name,
  parentPath,
}: {
  workspaceId: string
  name: string
  parentPath: readonly string[]
}): GroupRow {
  const nowMs = Date.now()
  const id = newId(nowMs)
  return {
    id,
    workspace_id: workspaceId,
    external_entity_id: name,
    name,
    parent_group_id: parentPath[0] ?? null,
    path: [id, ...parentPath].join('/'),
    limit_enforcement: 'CASCADING',
    models: JSON.stringify(modelsWithLimits(['json'], { requestsPerMinute: plenty })),
    created_at: nowMs,
  }
}

function keyRow(group: GroupRow, { prefix, hash }: { prefix: string; hash: string }): FederatedKeyRow {
  return {
    id: newId(group.created_at),
    prefix,
    hash,
    workspace_id: group.workspace_id,
    group_id: group.id,
    name: null,
    created_at: group.created_at,
    expires_at: null,
    last_used_at: null,
    revoked_at: null,
    slugs: null,
    successor_prefix: null,
  }
}
