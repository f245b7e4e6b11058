/**
 * A discrete-event simulation of many nodes: requests arrive by chance, wait for a worker of their node, then for the
 * one thread of the Redis shard that has their hierarchy; their events wait, in batches, for PostgreSQL, and from there
 * for the webhooks. Queues are first come, first served, without a bound, service times fixed: `bench/scale.ts` has them.
 * The same seed gives the same run.
 */
export interface ServiceTimes {
  /** A node's CPU for a request, all of it. */
  nodeUs: number
  takeUs: number
  settleUs: number
  /** A transaction of the ledger: for itself, and for each of its events. */
  batchUs: number
  eventUs: number
  /** An event on its way to a webhook. */
  deliveryUs: number
}

export interface Topology {
  /** Requests a second. */
  rate: number
  nodes: number
  /** Cores of a node that serve requests. */
  workers: number
  shards: number
  hierarchies: number
  /** The k-th hierarchy calls in proportion to 1 / k^skew. */
  skew: number
  /** Of all requests, those of one hierarchy more. */
  hotShare: number
  /** Of how many hierarchies, the busiest, a node takes `leaseBlock` admissions at a time; 0: none, as the product does. */
  leasedHierarchies: number
  leaseBlock: number
  /** 0: the record goes elsewhere. */
  databases: number
  /** Batches that one database writes at a time: one for each workspace, as far as it has cores. */
  ledgerWriters: number
}

export interface Run extends Topology {
  seconds: number
  seed?: number
}

/** One kind of part. Utilisation is work that came in over capacity: beyond 1 its queue grows. */
export interface PartLoad {
  mean: number
  busiest: number
  /** Of this kind, how many are beyond 1. */
  saturated: number
  /** Requests or events that wait at the end, for each second. */
  backlogPerSecond: number
}

export interface Simulated {
  parts: Record<'node' | 'shard' | 'ledger' | 'webhook', PartLoad>
  /** What an admission waits, in all queues before it; service not included. */
  waitUs: { p50: number; p99: number }
  shardWaitUsMean: number
  requests: number
  shardCalls: number
}

const batchMax = 500
const gatherUs = 100_000
/** How long upstream works. Longer answers change what is open, not what is busy. */
const answerUs = 5_000

export function simulate(run: Run, times: ServiceTimes): Simulated {
  const random = seededRandom(run.seed ?? 1)
  const endUs = run.seconds * 1e6
  const stations = (count: number, workers: number) =>
    Array.from({ length: count }, () => new Station({ workers, endUs }))
  const nodes = stations(run.nodes, run.workers)
  const shards = stations(run.shards, 1)
  const ledgers = stations(run.databases, run.ledgerWriters)
  const webhooks = stations(run.databases, 1)
  const agenda = new Agenda()
  const drawHierarchy = hierarchies(run, random)
  const leases = new Map<number, { left: number; fromUs: number }>()
  const gathered = nodes.map(() => 0)
  const waits: number[] = []
  let [shardWaitUs, shardCalls, requests] = [0, 0, 0]

  const arrive = (nowUs: number) => {
    agenda.add(nowUs + exponential(random, 1e6 / run.rate), arrive)
    requests += 1
    const node = Math.floor(random() * run.nodes)
    const hierarchy = drawHierarchy()
    const served = at(nodes, node).serve(nowUs, times.nodeUs)
    agenda.add(served.endsUs, (nowUs) => admit({ nowUs, node, hierarchy, nodeWaitUs: served.waitUs }))
  }

  const admit = (request: { nowUs: number; node: number; hierarchy: number; nodeWaitUs: number }) => {
    const { nowUs, node, hierarchy, nodeWaitUs } = request
    const shard = at(shards, shardOf(hierarchy, run.shards))
    const key = hierarchy * run.nodes + node
    const isLeased = hierarchy < run.leasedHierarchies
    // The run begins in the middle of things: nodes have part of a block.
    const begun = isLeased ? { left: Math.floor(random() * run.leaseBlock), fromUs: 0 } : undefined
    const lease = leases.get(key) ?? begun
    if (lease !== undefined) leases.set(key, lease)
    let admittedUs = nowUs
    if (lease !== undefined && lease.left > 0) {
      lease.left -= 1
      admittedUs = Math.max(nowUs, lease.fromUs)
      waits.push(nodeWaitUs + admittedUs - nowUs)
    } else {
      const taken = shard.serve(nowUs, times.takeUs)
      shardCalls += 1
      shardWaitUs += taken.waitUs
      waits.push(nodeWaitUs + taken.waitUs)
      admittedUs = taken.endsUs
      if (isLeased) leases.set(key, { left: run.leaseBlock - 1, fromUs: admittedUs })
      // What a block was used for is told once for all of it.
      if (times.settleUs > 0) agenda.add(nowUs + answerUs, (nowUs) => shard.serve(nowUs, times.settleUs))
    }
    // By the clock, however long the admission waited: a full shard shows all the work that there would be.
    if (run.databases > 0) agenda.add(nowUs + answerUs, (nowUs) => record(nowUs, node))
  }

  const record = (nowUs: number, node: number) => {
    gathered[node] = at(gathered, node) + 1
    if (gathered[node] === 1) agenda.add(nowUs + gatherUs, (nowUs) => ship(nowUs, node))
    if (gathered[node] === batchMax) ship(nowUs, node)
  }

  const ship = (nowUs: number, node: number) => {
    const events = at(gathered, node)
    if (events === 0) return
    gathered[node] = 0
    const database = node % run.databases
    const shipped = at(ledgers, database).serve(nowUs, times.batchUs + events * times.eventUs, events)
    agenda.add(shipped.endsUs, (nowUs) => at(webhooks, database).serve(nowUs, events * times.deliveryUs, events))
  }

  agenda.add(0, arrive)
  agenda.run(endUs)
  waits.sort((one, other) => one - other)
  const quantile = (share: number) => waits[Math.floor(share * waits.length)] ?? 0
  return {
    parts: { node: loadOf(nodes), shard: loadOf(shards), ledger: loadOf(ledgers), webhook: loadOf(webhooks) },
    waitUs: { p50: quantile(0.5), p99: quantile(0.99) },
    shardWaitUsMean: shardWaitUs / Math.max(1, shardCalls),
    requests,
    shardCalls,
  }
}

/** Servers with one queue. First come, first served and times known: who comes knows at once when he will be done. */
class Station {
  readonly #freeUs: number[]
  readonly #endUs: number
  workUs = 0
  unserved = 0

  constructor({ workers, endUs }: { workers: number; endUs: number }) {
    this.#freeUs = Array.from({ length: workers }, () => 0)
    this.#endUs = endUs
  }

  get utilisation(): number {
    return this.workUs / (this.#freeUs.length * this.#endUs)
  }

  serve(nowUs: number, serviceUs: number, units = 1): { waitUs: number; endsUs: number } {
    let first = 0
    for (let index = 1; index < this.#freeUs.length; index++) {
      if (at(this.#freeUs, index) < at(this.#freeUs, first)) first = index
    }
    const waitUs = Math.max(0, at(this.#freeUs, first) - nowUs)
    const endsUs = nowUs + waitUs + serviceUs
    this.#freeUs[first] = endsUs
    this.workUs += serviceUs
    if (nowUs + waitUs > this.#endUs) this.unserved += units
    return { waitUs, endsUs }
  }

  get unservedPerSecond(): number {
    return (this.unserved * 1e6) / this.#endUs
  }
}

function loadOf(stations: readonly Station[]): PartLoad {
  const utilisations = stations.map(({ utilisation }) => utilisation)
  return {
    mean: utilisations.reduce((total, one) => total + one, 0) / Math.max(1, stations.length),
    busiest: utilisations.reduce((most, one) => Math.max(most, one), 0),
    saturated: utilisations.filter((one) => one > 1).length,
    backlogPerSecond: stations.reduce((total, station) => total + station.unservedPerSecond, 0),
  }
}

const slots = 16_384

/** As in a cluster of Redis: a hierarchy's name has a slot, and a shard has a range of slots. */
function shardOf(hierarchy: number, shards: number): number {
  const hash = Math.imul(hierarchy + 1, 0x9e3779b1)
  const slot = (Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 8) % slots
  return Math.floor((slot * shards) / slots)
}

/** Draws hierarchies by their share of the requests: the hot one is 0, the others follow from the busiest on. */
function hierarchies({ hierarchies, skew, hotShare }: Topology, random: () => number): () => number {
  const upTo = new Float64Array(hierarchies)
  let total = 0
  for (let index = 0; index < hierarchies; index++) {
    total += (index + 1) ** -skew
    upTo[index] = total
  }
  return () => {
    if (random() < hotShare) return 0
    const wanted = random() * total
    let [below, above] = [0, hierarchies - 1]
    while (below < above) {
      const middle = (below + above) >> 1
      if ((upTo[middle] ?? 0) < wanted) below = middle + 1
      else above = middle
    }
    return below + 1
  }
}

/** What is to happen, the earliest first: a binary heap. */
class Agenda {
  readonly #entries: { atUs: number; action: (nowUs: number) => void }[] = []

  add(atUs: number, action: (nowUs: number) => void): void {
    const entries = this.#entries
    let index = entries.length
    const entry = { atUs, action }
    entries.push(entry)
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (at(entries, parent).atUs <= atUs) break
      entries[index] = at(entries, parent)
      index = parent
    }
    entries[index] = entry
  }

  run(endUs: number): void {
    for (let entry = this.#next(); entry !== null && entry.atUs <= endUs; entry = this.#next()) entry.action(entry.atUs)
  }

  #next() {
    const entries = this.#entries
    const [first] = entries
    const last = entries.pop()
    if (first === undefined || last === undefined) return null
    if (entries.length === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= entries.length) break
      if (child + 1 < entries.length && at(entries, child + 1).atUs < at(entries, child).atUs) child += 1
      if (at(entries, child).atUs >= last.atUs) break
      entries[index] = at(entries, child)
      index = child
    }
    entries[index] = last
    return first
  }
}

function exponential(random: () => number, mean: number): number {
  return -Math.log(1 - random()) * mean
}

/** Mulberry32: numbers from 0 to below 1, the same for the same seed. */
export function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index]
  if (item === undefined) throw new RangeError(`There is no item ${index} of ${items.length}.`)
  return item
}
