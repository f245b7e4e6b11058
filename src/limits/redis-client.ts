import { createClient, createCluster } from 'redis'
import { type Clock, sleep } from '../clock.ts'
import type { Log } from '../log.ts'

/** Commands to a Redis or Valkey server, or to the servers of a cluster. Fails at once while there is no connection. */
export interface RedisClient extends AsyncDisposable {
  /** To the server that has `key`. */
  send(key: string, command: string[]): Promise<unknown>
  /** To every server that has keys and answers; rejects when none does. */
  sendToAll(command: string[]): Promise<void>
  /** Names the server that has `key`. */
  shardOf(key: string): string
}

export interface RedisClientOptions {
  url: string
  /** Called whenever a connection to a server is there, the first time and after each time that it was lost. */
  onConnected: () => void
  clock: Clock
  log: Log
}

const connectMs = 2_000
const waitForFirstMs = 3_000
const retryMsMax = 1_000
/** What waits for Redis when it is slow; beyond it calls fail at once. */
const commandsMax = 20_000

/** Resolves once connected, or after three seconds without: it is then connected in the background. */
export async function openRedisClient(options: RedisClientOptions): Promise<RedisClient> {
  const client = new DetectedClient(options)
  await Promise.race([client.connected, sleep(options.clock, waitForFirstMs)])
  return client
}

/** What the URL leads to, found out by asking: until somebody has answered, nobody is there. */
class DetectedClient implements RedisClient {
  readonly connected: Promise<void>
  readonly #options: RedisClientOptions
  readonly #closed = new AbortController()
  #client: RedisClient | null = null

  constructor(options: RedisClientOptions) {
    this.#options = options
    this.connected = this.#connect()
  }

  async send(key: string, command: string[]): Promise<unknown> {
    if (this.#client === null) throw new Error('There is no connection to Redis yet.')
    return this.#client.send(key, command)
  }

  async sendToAll(command: string[]): Promise<void> {
    await this.#client?.sendToAll(command)
  }

  shardOf(key: string): string {
    return this.#client?.shardOf(key) ?? ''
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort()
    await this.connected
    await this.#client?.[Symbol.asyncDispose]()
  }

  async #connect(): Promise<void> {
    const { clock, log } = this.#options
    for (let failures = 0; !this.#closed.signal.aborted; failures += 1) {
      try {
        this.#client = await connect(this.#options)
        return
      } catch (error) {
        if (failures === 0) log.error({ err: error }, 'Redis cannot be reached; it is tried again until it is')
        await sleep(clock, retryMs(failures), this.#closed.signal)
      }
    }
  }
}

async function connect({ url, onConnected, log }: RedisClientOptions): Promise<RedisClient> {
  let isConnected = false
  const options = connectionOptions()
  const reconnectStrategy = (failures: number) => isConnected && retryMs(failures)
  const single = createClient({ ...options, socket: { ...options.socket, reconnectStrategy }, url })
  single.on('error', (error) => log.debug({ err: error }, 'connection to Redis'))
  single.on('ready', onConnected)
  try {
    await single.connect()
    warnOfEviction(await single.sendCommand(['INFO', 'memory']), log)
    const isCluster = /cluster_enabled:1/.test(String(await single.sendCommand(['INFO', 'cluster'])))
    isConnected = true
    if (!isCluster) return singleServer(single)
  } catch (error) {
    if (single.isOpen) single.destroy()
    throw error
  }
  single.destroy()
  return connectCluster({ url, onConnected, log })
}

interface SingleClient {
  sendCommand(command: string[]): Promise<unknown>
  connect(): Promise<unknown>
  destroy(): void
  isReady: boolean
}

function singleServer(client: SingleClient): RedisClient {
  const send = async (command: string[]) => {
    try {
      return await client.sendCommand(command)
    } catch (error) {
      // Another server has taken over, behind the same address.
      if (error instanceof Error && error.message.startsWith('READONLY') && client.isReady) {
        client.destroy()
        client.connect().catch(() => undefined)
      }
      throw error
    }
  }
  return {
    send: (_key, command) => send(command),
    async sendToAll(command) {
      await send(command)
    },
    shardOf: () => '',
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

async function connectCluster({ url, onConnected, log }: Omit<RedisClientOptions, 'clock'>): Promise<RedisClient> {
  const { username, password, protocol } = new URL(url)
  const { socket, ...options } = connectionOptions()
  const cluster = createCluster({
    rootNodes: [{ url }],
    defaults: {
      ...options,
      socket: protocol === 'rediss:' ? { ...socket, tls: true } : socket,
      ...(username === '' ? {} : { username: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    },
    commandOptions: options.commandOptions,
    topologyRefreshOnReconnectionAttemptStrategy: 500,
  })
  cluster.on('error', (error) => log.debug({ err: error }, 'connection to Redis'))
  cluster.on('node-ready', onConnected)
  await cluster.connect()
  return {
    send: (key, command) => cluster.sendCommand(key, false, command),
    async sendToAll(command) {
      const sent = cluster.masters.map(async (master) => (await cluster.nodeClient(master)).sendCommand(command))
      await Promise.any(sent)
      await Promise.allSettled(sent)
    },
    shardOf: (key) => cluster.slots[hashSlot(key)]?.master.address ?? '',
    async [Symbol.asyncDispose]() {
      cluster.destroy()
    },
  }
}

function connectionOptions() {
  return {
    disableOfflineQueue: true,
    commandsQueueMaxLength: commandsMax,
    // Calls have a deadline of their own; the client's costs a signal for each.
    commandOptions: { timeout: 0 },
    // A connection whose other end has silently gone is given up.
    pingInterval: 2_000,
    socket: { connectTimeout: connectMs, socketTimeout: 5_000, reconnectStrategy: retryMs },
  }
}

function retryMs(failures: number): number {
  return Math.min(retryMsMax, 50 * 2 ** failures)
}

/** Every key has an expiry: a server that evicts would take limits away. */
function warnOfEviction(memory: unknown, log: Log): void {
  const policy = /maxmemory_policy:(\S+)/.exec(String(memory))?.[1]
  const isBounded = !/maxmemory:0\s/.test(String(memory))
  if (isBounded && policy !== 'noeviction') {
    log.warn({ policy }, 'Redis may evict limit counters when it is full; set maxmemory-policy to noeviction')
  }
}

/** Redis Cluster specification, "Key distribution model": CRC16-XMODEM of the hash tag, modulo 16,384. */
function hashSlot(key: string): number {
  const [, tag = key] = /\{([^}]+)\}/.exec(key) ?? []
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit += 1) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff
  }
  return crc % 16_384
}
