import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { median } from '../../bench/median.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { manage, readEvents, readMetrics, slug, usageToday } from '../support/record-under-load.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { until } from '../support/until.ts'
import { startBilling } from './billing.ts'
import { type Customer, takeOnCustomers } from './customers.ts'
import { Management } from './management.ts'
import { isAbandoned, numberOf, tokensOf } from './requests.ts'
import { RestartedServer } from './restarted-server.ts'
import { clients, Traffic } from './traffic.ts'
import { type Finding, findings, type GroupUsage } from './verdict.ts'

/**
 * Everything at once, for as long as you like: `npm run soak -- --minutes 60`. Customers call, leave and are refused;
 * the lab changes keys and names; its billing system fails, and is away one minute in seven. In the first fifth of the
 * time and in the last the server is killed and stopped, in between it is left alone and its memory is looked at. In
 * the end the record is held against what clients and billing saw. Exits with 1 where a promise was broken.
 */
const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' } } })
const found = await soak(minutesOf(values.minutes))
for (const { promise, broken } of found) say(`${broken === 0 ? 'held' : `BROKEN ${broken} times`}: ${promise}`)
process.exitCode = found.every(({ broken }) => broken === 0) ? 0 : 1

async function soak(minutes: number): Promise<Finding[]> {
  using folder = temporaryFolder()
  await using upstream = await startModel()
  await using billing = await startBilling()
  await using server = await RestartedServer.start(folder.path)
  const target = { provider: 'OPENAI_COMPATIBLE', base_url: upstream.baseUrl, target_model: 'model' }
  await manage(server, 'POST', '/v1/gateway/endpoints', { slug, targets: [target] })
  await manage(server, 'POST', '/v1/gateway/webhooks', { url: billing.url, retry_window_seconds: 604_800 })
  const { rootId, customers } = await takeOnCustomers(server)
  await using traffic = new Traffic(server, customers)
  await using management = new Management(server, customers)

  const residentMb: number[] = []
  const exitCodes: (number | null)[] = []
  for (let minute = 0; minute < minutes; minute++) {
    const minuteEndsMs = performance.now() + 60_000
    billing.isAway = minute % 7 === 3
    const isLeftAlone = minute >= minutes / 5 && minute < (minutes * 4) / 5
    if (!isLeftAlone) exitCodes.push(await disturb(server))
    await delay(minuteEndsMs - performance.now())
    if (isLeftAlone) residentMb.push(await residentMegabytes(server))
    say(`minute ${minute + 1}: ${traffic.summary()}, ${billing.taken.size} events at billing`)
  }

  billing.isAway = false
  await traffic.stop()
  await management.stop()
  const recorded = await readEvents(server)
  await until(() => billing.taken.size >= recorded.length, { withinMs: 600_000, everyMs: 1_000 }).catch(() => {})
  say(`${recorded.length} events; ${server.kills} kills; billing had ${billing.repeats} of them again`)
  for (const answer of traffic.unexpected) say(`unexpected: ${answer}`)
  say(`resident after each minute in which the server was left alone: ${residentMb.join(', ')} MB`)
  return [
    ...findings({
      recorded,
      completed: traffic.completed,
      abandoned: traffic.abandoned,
      interruptedMax: server.kills * clients,
      taken: billing.taken,
      usage: await usageOf(server, { rootId, customers }),
    }),
    {
      promise: 'requests are answered, refused by their limit, or cut off by an end of the server',
      broken: traffic.unexpected.length,
    },
    {
      promise: 'a stop that was asked for ends with exit code 0',
      broken: exitCodes.filter((code) => code !== 0).length,
    },
    { promise: 'memory does not grow by a quarter', broken: hasGrown(residentMb) ? 1 : 0 },
  ]
}

/** Throws where it is no number of minutes, or where they do not end before the counters' day does. */
function minutesOf(text: string): number {
  const minutes = Number(text)
  if (!(minutes > 0)) throw new Error(`--minutes takes a number above 0, not ${text}.`)
  const endsOn = (ms: number) => new Date(ms).toISOString().slice(0, 10)
  if (endsOn(Date.now()) !== endsOn(Date.now() + (minutes + 15) * 60_000)) {
    throw new Error('It has to end 15 minutes before midnight UTC: the counters that it looks at are those of a day.')
  }
  return minutes
}

/** A model whose figures follow from a request's number, so that each event can be held against them. */
async function startModel(): Promise<MockUpstream> {
  const upstream = await startMockUpstream({
    script({ body }) {
      // All that it was asked in an hour is too much to keep.
      upstream.requests.length = 0
      const number = numberOf(body['metadata'])
      return { ...tokensOf(number), pace: isAbandoned(number) ? { chunkDelayMs: 20 } : 'at-once' }
    },
  })
  return upstream
}

/** Kills the server once and stops it once, within 50 s; resolves with the exit code of the stop. */
async function disturb(server: RestartedServer): Promise<number | null> {
  await delay(Math.random() * 25_000)
  await server.kill()
  await delay(Math.random() * 25_000)
  return server.stop()
}

async function usageOf(
  server: RestartedServer,
  { rootId, customers }: { rootId: string; customers: readonly Customer[] },
): Promise<GroupUsage[]> {
  const groups = [
    { groupId: rootId, below: customers.map(({ entityId }) => entityId) },
    ...customers.map(({ groupId, entityId }) => ({ groupId, below: [entityId] })),
  ]
  return Promise.all(
    groups.map(async ({ groupId, below }) => ({ customers: below, counted: await usageToday(server, groupId) })),
  )
}

async function residentMegabytes(server: RestartedServer): Promise<number> {
  const bytes = /^tollgate_process_resident_memory_bytes (\d+)$/m.exec(await readMetrics(server))?.[1]
  return Math.round(Number(bytes) / 1024 / 1024)
}

/** Whether the last third is larger than the first by more than garbage explains. */
function hasGrown(readings: readonly number[]): boolean {
  const third = Math.floor(readings.length / 3)
  return median(readings.slice(-third)) > 1.25 * median(readings.slice(0, third))
}

function say(line: string): void {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`)
}
