import { leaseThroughADay } from './scale-leases.ts'
import { type Run, type ServiceTimes, type Simulated, seededRandom, simulate } from './scale-simulation.ts'

/**
 * The figures of docs/scale.md: `node bench/scale.ts`, half a minute. Put your own times in: a node's and a delivery's come
 * from `npm run bench`, the others from `node bench/service-times.ts`.
 */
const times: ServiceTimes = { nodeUs: 370, takeUs: 85, settleUs: 55, batchUs: 4_500, eventUs: 70, deliveryUs: 23 }

const common = { skew: 0.8, hotShare: 0, leasedHierarchies: 0, leaseBlock: 1 }
const small: Run = {
  ...common,
  rate: 1_000,
  nodes: 2,
  workers: 1,
  shards: 1,
  hierarchies: 1_000,
  databases: 1,
  ledgerWriters: 1,
  seconds: 60,
}
const middle: Run = {
  ...common,
  rate: 100_000,
  nodes: 40,
  workers: 2,
  shards: 32,
  hierarchies: 100_000,
  databases: 1,
  ledgerWriters: 8,
  seconds: 3,
}
const large: Run = {
  ...common,
  rate: 10_000_000,
  nodes: 4_000,
  workers: 2,
  shards: 3_200,
  hierarchies: 1_000_000,
  databases: 0,
  ledgerWriters: 1,
  seconds: 0.05,
}
const split = { databases: 20, ledgerWriters: 1 }
const hot = { hotShare: 0.05 }

const runs: [title: string, run: Run][] = [
  ['1,000/s: 2 nodes of 1 core, 1 Redis, 1 PostgreSQL', small],
  ['the same, 5 % of all from one more hierarchy', { ...small, ...hot }],
  ['100,000/s: 40 nodes of 2 cores, 1 Redis, 1 PostgreSQL of 8 workspaces', { ...middle, shards: 1 }],
  ['the same, 32 shards', middle],
  ['32 shards, 20 PostgreSQL of 1 workspace', { ...middle, ...split }],
  ['the same, 5 % of all from one more hierarchy', { ...middle, ...split, ...hot }],
  [
    'the same, the 10 busiest lease 20 at a time',
    {
      ...middle,
      ...split,
      ...hot,
      leasedHierarchies: 10,
      leaseBlock: 20,
    },
  ],
  ['10,000,000/s: 4,000 nodes of 2 cores, 3,200 shards', large],
  ['the same, 5 % of all from one more hierarchy', { ...large, ...hot }],
  ['the same, the 1,000 busiest lease 20 at a time', { ...large, ...hot, leasedHierarchies: 1_000, leaseBlock: 20 }],
  ['the same, the 1,000 busiest lease 200 at a time', { ...large, ...hot, leasedHierarchies: 1_000, leaseBlock: 200 }],
]

print('| run | node | shard | ledger | webhook | wait p50 | p99 | fullest part, and full at | queues grow by |')
print('|---|---:|---:|---:|---:|---:|---:|---|---:|')
for (const [title, run] of runs) print(row(title, run, simulate(run, times)))

print('')
print('| a limit of 10,000, 40 nodes, 10,500 requests | calls of the counter | admitted | refused early | never used |')
print('|---|---:|---:|---:|---:|')
for (const { block, shrinking } of [
  { block: 1, shrinking: false },
  { block: 20, shrinking: false },
  { block: 200, shrinking: false },
  { block: 20, shrinking: true },
  { block: 200, shrinking: true },
]) {
  const random = seededRandom(1)
  const day = leaseThroughADay({ threshold: 10_000, nodes: 40, requests: 10_500, block, shrinking, random })
  const title = `blocks of ${block}${shrinking ? ', smaller towards the end' : ''}`
  print(`| ${[title, day.calls, day.admitted, day.refusedEarly, day.stranded].join(' | ')} |`)
}

/** Of each part the mean, and the busiest one where that is another. */
function row(title: string, run: Run, { parts, waitUs }: Simulated): string {
  const loads = Object.entries(parts).map(([name, load]) => ({ name, ...load }))
  const cells = loads.map(({ mean, busiest }) => {
    if (busiest === 0) return '–'
    return busiest - mean < 0.02 ? percent(mean) : `${percent(mean)}, busiest ${percent(busiest)}`
  })
  const [fullest] = loads.toSorted((one, other) => other.busiest - one.busiest)
  const fullAt = fullest === undefined ? '' : `${fullest.name}, ${thousands(run.rate / fullest.busiest)}/s`
  const growing = loads.filter(({ busiest }) => busiest > 1)
  const growth = growing.map(({ name, backlogPerSecond }) => `${name} ${thousands(backlogPerSecond)}/s`)
  const waits = [waitUs.p50, waitUs.p99].map((us) => `${(us / 1_000).toFixed(us < 10_000 ? 2 : 0)} ms`)
  return `| ${[title, ...cells, ...waits, fullAt, growth.join(', ') || '–'].join(' | ')} |`
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

/** To two digits: more would be none of the figures that it comes from. */
function thousands(value: number): string {
  return Number(value.toPrecision(2)).toLocaleString('en')
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
