import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from 'redis'
import { freePort } from './free-port.ts'
import { until } from './until.ts'

/** Where there is no redis-server the tests that need it are skipped, and say so; a CI run without it fails. */
export const withoutRedis = redisMissing() ? { skip: 'needs redis-server, which is not installed' } : {}

function redisMissing(): boolean {
  const isMissing = spawnSync('redis-server', ['--version']).status !== 0
  if (isMissing && process.env['CI'] === 'true') throw new Error('CI needs redis-server.')
  return isMissing
}

/** One redis-server, or the three of a cluster, of the test's own. */
export interface RedisServers extends AsyncDisposable {
  url: string
  ports: readonly number[]
  /** Ends them between two instructions; what they held is lost. */
  kill(): Promise<void>
  /** Starts what was killed, empty, on the same ports. */
  start(): Promise<void>
  /** Stops them from answering, and lets them go on. */
  freeze(): void
  thaw(): void
  /** The same command to each of them. */
  send(command: string[]): Promise<unknown[]>
}

export async function startRedis({ servers = 1 }: { servers?: 1 | 3 } = {}): Promise<RedisServers> {
  await using started = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-redis-'))
  started.defer(() => rm(folder, { recursive: true, force: true }))
  const ports = await Promise.all(Array.from({ length: servers }, freePort))
  let children: ChildProcess[] = []

  const send = (command: string[]) => Promise.all(ports.map((port) => sendTo(port, command)))
  const kill = async () => {
    await Promise.all(
      children.map((child) => {
        const exited = once(child, 'exit')
        child.kill('SIGKILL')
        return exited
      }),
    )
    children = []
  }
  const start = async () => {
    children = ports.map((port) => startServer(port, { folder, isCluster: servers > 1 }))
    await Promise.all(ports.map((port) => until(() => sendTo(port, ['PING']).catch(() => null))))
    if (servers > 1) await joinCluster(ports)
  }
  await start()
  started.defer(kill)
  const parts = started.move()
  return {
    url: `redis://127.0.0.1:${ports[0]}`,
    ports,
    kill,
    start,
    freeze() {
      for (const child of children) child.kill('SIGSTOP')
    },
    thaw() {
      for (const child of children) child.kill('SIGCONT')
    },
    send,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function startServer(port: number, { folder, isCluster }: { folder: string; isCluster: boolean }): ChildProcess {
  const common = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder]
  const cluster = ['--cluster-enabled', 'yes', '--cluster-config-file', `nodes-${port}-${process.hrtime.bigint()}.conf`]
  return spawn('redis-server', [...common, ...(isCluster ? cluster : [])], { stdio: 'ignore' })
}

async function joinCluster(ports: readonly number[]): Promise<void> {
  const slots = 16_384
  const share = Math.ceil(slots / ports.length)
  const [first] = ports
  for (const [index, port] of ports.entries()) {
    const last = Math.min(slots, (index + 1) * share) - 1
    await sendTo(port, ['CLUSTER', 'ADDSLOTSRANGE', String(index * share), String(last)])
    await sendTo(port, ['CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1)])
    if (port !== first) await sendTo(port, ['CLUSTER', 'MEET', '127.0.0.1', String(first)])
  }
  const isReady = async (port: number) => {
    const info = String(await sendTo(port, ['CLUSTER', 'INFO']))
    return /cluster_state:ok/.test(info) && info.includes(`cluster_known_nodes:${ports.length}`)
  }
  await until(async () => (await Promise.all(ports.map(isReady))).every(Boolean), { withinMs: 20_000 })
}

async function sendTo(port: number, command: string[]): Promise<unknown> {
  const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false } })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.sendCommand(command)
  } finally {
    client.destroy()
  }
}
