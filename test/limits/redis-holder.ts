import { text } from 'node:stream/consumers'
import type { Hold } from '../../src/limits/counter-store.ts'
import { openTestRedisCounters } from '../support/counter-backends.ts'

/** A process that takes what its input says, keeps it, and can be killed. */
const { times, ...demand } = JSON.parse(await text(process.stdin))
const counters = await openTestRedisCounters({ redis: { url: String(process.argv[2]) }, leaseMs: 1_000 })
const holds: Hold[] = []
for (let taken = 0; taken < times; taken += 1) {
  const answer = await counters.take(demand)
  if (answer.taken) holds.push(answer.hold)
}
setInterval(() => void counters.renew(holds), 300)
process.stdout.write(`${holds.length}\n`)
