import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import type { Bucket } from '../../src/limits/buckets.ts'
import type { Hold } from '../../src/limits/counter-store.ts'
import { limitEnforcements } from '../../src/limits/effective-limits.ts'
import type { RedisCounters } from '../../src/limits/redis-counters.ts'
import { openTestRedisCounters, RedisTime } from '../support/counter-backends.ts'
import { bucket, newOwner } from '../support/limit-buckets.ts'
import { type Action, anyActions, anyConfiguration, type Requested, Simulation } from '../support/limit-simulation.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { type RedisServers, startRedis, withoutRedis } from '../support/redis.ts'

describe('counters in Redis, whatever happens', withoutRedis, () => {
  let redis: RedisServers
  before(async () => {
    redis = await startRedis()
  })
  after(() => redis[Symbol.asyncDispose]())

  test('answer every request as counters in memory do, to the millisecond', async () => {
    // Redis tells whole milliseconds, and a clock that jumps ahead takes its windows along.
    const played = anyActions.map((actions) =>
      actions
        .filter(({ kind }) => kind !== 'jump')
        .map((action): Action => (action.kind === 'pass' ? { kind: 'pass', ms: Math.round(action.ms) } : action)),
    )
    await fc.assert(
      fc.asyncProperty(
        anyConfiguration,
        fc.constantFrom(...limitEnforcements),
        played,
        async (configuration, enforcement, actions) => {
          const common = { configuration, enforcement, leaseMs: 5_000 }
          await redis.send(['FLUSHALL'])
          const time = new RedisTime(redis)
          await using counters = await openTestRedisCounters({ redis, leaseMs: 5_000, library: time.library })
          const clock = new ManualClock(time.nowMs)
          const passed = () => time.jumpTo(clock.now())
          // The server has the library, and with it the clock, from the first call on.
          await counters.probe('root')
          const inRedis = new Simulation({ ...common, store: { counters, clock, passed } })
          const inMemory = new Simulation(common)
          for (const action of actions) {
            assert.deepEqual(answerOf(await inRedis.perform(action)), answerOf(await inMemory.perform(action)))
          }
        },
      ),
      { numRuns: 30 },
    )
  })

  test('have every day exact and no window passed, over two nodes and a Redis that is emptied now and then', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 60, size: 'max' }), async (steps) => {
        await redis.send(['FLUSHALL'])
        const time = new RedisTime(redis)
        const open = () => openTestRedisCounters({ redis, leaseMs: 3_600_000, library: time.library })
        await using one = await open()
        await using other = await open()
        await one.probe('root')
        const play = new Play({ nodes: [one, other], redis, time })
        for (const step of steps) await play.perform(step)
        await play.assertDayExact()
      }),
      { numRuns: 30 },
    )
  })
})

/** What was decided, without the names of holds. */
function answerOf(requested: Requested | null) {
  if (requested === null) return null
  const { taken } = requested
  return taken.taken ? { levels: taken.levels } : { levels: taken.levels, refused: taken.refused }
}

const anyNode = fc.constantFrom(0, 1)
const anyPick = fc.nat(30)
type Step =
  | { kind: 'take'; node: number; tokens: number }
  | { kind: 'settle' | 'abandon'; pick: number; tokens: number }
  | { kind: 'release'; pick: number }
  | { kind: 'renew'; pick: number }
  | { kind: 'pass'; ms: number }
  | { kind: 'empty' }

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('take'), node: anyNode, tokens: fc.nat(40) }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('settle', 'settle', 'abandon'), pick: anyPick, tokens: fc.nat(60) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('release'), pick: anyPick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('renew'), pick: anyPick }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass'), ms: fc.nat(20_000) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('empty') }) },
)

const stateAfter = { settle: 'settled', abandon: 'abandoned', release: 'released' } as const

interface Entry {
  node: RedisCounters
  hold: Hold
  atMs: number
  tokens: number
  state: 'in flight' | (typeof stateAfter)[keyof typeof stateAfter]
}

/** Two nodes that share a limit, and a book of all that they were told, kept the plain way. */
class Play {
  readonly #nodes: readonly RedisCounters[]
  readonly #redis: RedisServers
  readonly #time: RedisTime
  readonly #window: Bucket
  readonly #days: readonly Bucket[]
  readonly #book: Entry[] = []
  #emptiedMs = Number.NEGATIVE_INFINITY

  constructor({ nodes, redis, time }: { nodes: readonly RedisCounters[]; redis: RedisServers; time: RedisTime }) {
    this.#nodes = nodes
    this.#redis = redis
    this.#time = time
    const owner = newOwner()
    this.#window = bucket({ owner, type: 'TOKEN', unit: 'MINUTE', threshold: 150 })
    this.#days = (['REQUEST', 'TOKEN'] as const).map((type) => bucket({ owner, type, unit: 'DAY', threshold: null }))
  }

  async perform(step: Step): Promise<void> {
    if (step.kind === 'take') return this.#take(step)
    if (step.kind === 'pass') return this.#time.pass(step.ms)
    if (step.kind === 'empty') return this.#empty()
    const entry = this.#book[step.pick % Math.max(1, this.#book.length)]
    if (entry === undefined) return
    if (step.kind === 'renew') return entry.node.renew([entry.hold])
    if (step.kind === 'settle') await entry.node.settle(entry.hold, step.tokens)
    else if (step.kind === 'abandon') await entry.node.abandon(entry.hold, step.tokens)
    else await entry.node.release(entry.hold)
    await this.#heard(entry.node)
    if (entry.state !== 'in flight') return
    entry.state = stateAfter[step.kind]
    entry.tokens = 'tokens' in step ? step.tokens : 0
  }

  async assertDayExact(): Promise<void> {
    // A node tells an emptied Redis its part when it next asks.
    for (const node of this.#nodes) await this.#heard(node)
    const kept = this.#book.filter(({ state }) => state === 'in flight' || state === 'settled')
    const levels = await this.#levels()
    assert.deepEqual(levels.slice(1), [kept.length, sum(kept.map(({ tokens }) => tokens))])
  }

  async #take({ node: index, tokens }: { node: number; tokens: number }): Promise<void> {
    const node = this.#nodes[index]
    assert.ok(node)
    const buckets = [this.#window, ...this.#days]
    for (const each of this.#nodes) await this.#heard(each)
    const taken = await node.take({ hierarchy: 'root', buckets, tokens })
    const counted = this.#countedInWindow()
    if (!taken.taken) {
      // Windows that were lost count what each node last knew, and so more than there was, for as long as they remember.
      assert.ok(counted.most + tokens > 150 || this.#time.nowMs - this.#emptiedMs <= 61_000, 'had room')
      return
    }
    const entry: Entry = { node, hold: taken.hold, atMs: this.#time.nowMs, tokens, state: 'in flight' }
    this.#book.push(entry)
    assert.ok(counted.least + tokens <= 150, 'passed the threshold')
  }

  /** Of what was settled, the windows of an emptied Redis know what nodes were told of it; of what is in flight, all. */
  async #empty(): Promise<void> {
    await this.#redis.send(['FLUSHALL'])
    this.#emptiedMs = this.#time.nowMs
    for (const entry of this.#book) if (entry.state !== 'in flight') entry.atMs = Number.NEGATIVE_INFINITY
  }

  #countedInWindow(): { least: number; most: number } {
    const since = (ms: number) =>
      sum(this.#book.filter(({ atMs }) => atMs >= this.#time.nowMs - ms).map(({ tokens }) => tokens))
    return { least: since(60_000), most: since(61_000) }
  }

  async #levels(): Promise<number[]> {
    const [node] = this.#nodes
    assert.ok(node)
    const buckets = [this.#window, ...this.#days, bucket({ threshold: 0 })]
    const { levels } = await node.take({ hierarchy: 'root', buckets, tokens: 0 })
    return levels.slice(0, -1).map(({ used }) => used)
  }

  /** Resolves when Redis has what the node told it before. */
  async #heard(node: RedisCounters): Promise<void> {
    await node.dayUsage({ hierarchy: 'root', owner: this.#window.owner, slugs: ['lab/model'] })
  }
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0)
}
