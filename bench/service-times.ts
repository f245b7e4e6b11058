import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from 'kysely'
import { systemClock } from '../src/clock.ts'
import { newId } from '../src/id.ts'
import type { BillingEvent } from '../src/ledger/billing-event.ts'
import { type Ledger, openLedger } from '../src/ledger/ledger.ts'
import { type BucketSet, bucketSet } from '../src/limits/buckets.ts'
import { bySlug } from '../src/limits/effective-limits.ts'
import type { Database } from '../src/storage/database.ts'
import { openPostgresDatabase } from '../src/storage/postgres.ts'
import { openTestRedisCounters } from '../test/support/counter-backends.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { type RedisServers, startRedis } from '../test/support/redis.ts'
import { cpuSecondsOfAll } from './processes.ts'
import { sampleEvent } from './sample-event.ts'

/**
 * What one Redis and one PostgreSQL take for a request, on the real parts: `node bench/service-times.ts`, half a minute.
 * `docs/scale.md` and `bench/scale.ts` rest on these figures. They need redis-server; the load comes from this process,
 * which takes as much CPU as what it measures: trust CPU times before rates.
 */
const slug = 'bench/json'
const admissions = 30_000
const batches = 100

async function main(): Promise<void> {
  print('Redis: take and settle, a CASCADING tree of three levels, three limits at each, 64 at a time')
  print(await measureRedis({ hierarchies: 100 }))
  print('PostgreSQL, fsync on: batches of events, each counted by three groups')
  for (const load of [
    { writers: 1, workspaces: 1, batchEvents: 500, customers: 100 },
    { writers: 1, workspaces: 1, batchEvents: 50, customers: 100 },
    { writers: 1, workspaces: 1, batchEvents: 500, customers: 100_000 },
    { writers: 2, workspaces: 1, batchEvents: 500, customers: 100 },
    { writers: 2, workspaces: 2, batchEvents: 500, customers: 100 },
  ]) {
    print(await measurePostgres(load))
  }
}

async function measureRedis({ hierarchies }: { hierarchies: number }): Promise<Record<string, number>> {
  await using redis = await startRedis()
  await using counters = await openTestRedisCounters({ redis })
  const sets = Array.from({ length: hierarchies }, threeLevels)
  const admit = async (count: number) => {
    let left = count
    const request = async () => {
      for (; left > 0; left--) {
        const { hierarchy, buckets } = drawn(sets)
        const taken = await counters.take({ hierarchy, buckets, tokens: 500 })
        if (!taken.taken) throw new Error('A limit that is out of reach has refused a request.')
        await counters.settle(taken.hold, 321)
      }
    }
    await Promise.all(Array.from({ length: 64 }, request))
  }
  await admit(admissions / 3)

  const before = await redisFigures(redis)
  const [startMs, nodeBefore] = [systemClock.monotonic(), process.cpuUsage()]
  await admit(admissions)
  const seconds = (systemClock.monotonic() - startMs) / 1_000
  const after = await redisFigures(redis)
  const nodeCpu = process.cpuUsage(nodeBefore)
  return {
    counters: drawn(sets).buckets.length,
    admissionsPerSecond: admissions / seconds,
    redisCpuUs: ((after.cpuSeconds - before.cpuSeconds) * 1e6) / admissions,
    nodeCpuUs: (nodeCpu.user + nodeCpu.system) / admissions,
    bytesToRedis: (after.bytesIn - before.bytesIn) / admissions,
    bytesFromRedis: (after.bytesOut - before.bytesOut) / admissions,
    memoryPerHierarchy: after.bytesHeld / hierarchies,
  }
}

function threeLevels(): BucketSet {
  const limit = 1_000_000_000_000
  const models = bySlug([
    {
      slug,
      rate_limits: [
        { type: 'REQUEST', unit: 'MINUTE', threshold: limit },
        { type: 'TOKEN', unit: 'MINUTE', threshold: limit },
      ],
      usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: limit }],
    },
  ])
  return bucketSet(
    'CASCADING',
    Array.from({ length: 3 }, () => ({ id: newId(systemClock.now()), models })),
    slug,
  )
}

async function redisFigures({ send }: RedisServers) {
  const [text] = await send(['INFO'])
  const field = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(String(text))?.[1])
  return {
    cpuSeconds: field('used_cpu_user') + field('used_cpu_sys'),
    bytesIn: field('total_net_input_bytes'),
    bytesOut: field('total_net_output_bytes'),
    bytesHeld: field('used_memory_dataset'),
  }
}

interface LedgerLoad {
  /** Nodes that ship at once: each ships for all workspaces in turn. */
  writers: number
  workspaces: number
  /** In one transaction: the shipper's bound is 500. */
  batchEvents: number
  /** Over how many groups of the third level the events spread. */
  customers: number
}

async function measurePostgres(load: LedgerLoad): Promise<Record<string, number>> {
  await using server = await startPostgres({ fsync: 'on' })
  await server.create('ledger')
  await using database = await openPostgresDatabase({ url: server.url('ledger') })
  const ledger = openLedger({ database })
  await shipBatches(ledger, load, 10)
  const before = await postgresFigures(database)
  const startMs = systemClock.monotonic()
  await shipBatches(ledger, load, batches)
  const seconds = (systemClock.monotonic() - startMs) / 1_000
  const after = await postgresFigures(database)
  const events = after.events - before.events
  return {
    ...load,
    eventsPerSecond: events / seconds,
    batchMs: (seconds * 1_000 * load.writers) / batches,
    postgresCpuUs: ((after.cpuSeconds - before.cpuSeconds) * 1e6) / events,
    walBytes: (after.walBytes - before.walBytes) / events,
    tableBytes: after.tableBytes / after.events,
    rollUpRows: after.rollUpRows,
  }
}

/** Writers take the batches in turn; the writer's number says for which workspace. */
async function shipBatches(ledger: Ledger, load: LedgerLoad, count: number) {
  const { writers, workspaces, batchEvents, customers } = load
  let left = count
  const writer = async (_value: unknown, index: number) => {
    const workspaceId = `workspace-${index % workspaces}`
    for (; left > 0; left--)
      await ledger.write(Array.from({ length: batchEvents }, () => event(workspaceId, customers)))
  }
  await Promise.all(Array.from({ length: writers }, writer))
}

async function postgresFigures({ queries }: Database) {
  const { rows } = await sql<Record<'wal' | 'size' | 'events' | 'roll_up' | 'folder', string>>`
    select pg_current_wal_insert_lsn() - '0/0' as wal, pg_total_relation_size('events') as size,
      (select count(*) from events) as events, (select count(*) from usage_daily) as roll_up,
      current_setting('data_directory') as folder`.execute(queries)
  const [row] = rows
  if (row === undefined) throw new Error('PostgreSQL tells nothing of itself.')
  const pid = Number(readFileSync(join(row.folder, 'postmaster.pid'), 'utf8').split('\n')[0])
  return {
    cpuSeconds: cpuSecondsOfAll(pid),
    walBytes: Number(row.wal),
    tableBytes: Number(row.size),
    events: Number(row.events),
    rollUpRows: Number(row.roll_up),
  }
}

const node = randomUUID()

function event(workspaceId: string, customers: number): BillingEvent {
  const customer = Math.floor(Math.random() * customers)
  const groups = [`leaf-${customer}`, `middle-${customer % 1_000}`, `root-${customer % 100}`]
  const countedGroups = groups.map((name) => `01k000${name.padStart(20, '0')}`)
  return sampleEvent({ workspaceId, node, externalEntityId: `customer-${customer}`, countedGroups })
}

function drawn<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)]
  if (item === undefined) throw new Error('There is nothing to draw from.')
  return item
}

function print(line: string | Record<string, number>): void {
  const text =
    typeof line === 'string'
      ? line
      : Object.entries(line)
          .map(
            ([name, value]) => `  ${name} ${value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString('en')}`,
          )
          .join('\n')
  process.stdout.write(`${text}\n`)
}

await main()
