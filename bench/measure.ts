import { setTimeout as pause } from 'node:timers/promises'
import { bodyOf, type CaseName, type CpuCaseName, cases } from './cases.ts'
import type { Gateway } from './gateways.ts'
import { type LoadResult, load } from './load.ts'
import { goFirst } from './priority.ts'
import { settled } from './processes.ts'

/** What every measurement needs: the load generator, a folder for its files, the upstream, and how long to measure. */
export interface Rig {
  program: string
  folder: string
  upstreamPort: number
  /** The upstream and this process: go first while times are measured. None where that is not allowed. */
  toolPids: readonly number[]
  pace: Pace
  /** Tells whoever waits what is going on. */
  say(line: string): void
}

export interface Pace {
  rounds: number
  warmUpSeconds: number
  seconds: number
}

/** One figure of one round. */
export interface Measured {
  what: Quantity
  /** The kind of request, or the size of the store. */
  of: string
  who: string
  value: number
}

export type Quantity =
  | 'cpuUs'
  | 'requestsPerSecond'
  | 'requestP99Us'
  | 'addedP50Us'
  | 'addedP99Us'
  | 'addedToChunkP50Us'
  | 'addedToChunkP99Us'
  | 'bytesPerStream'
  | 'eventsPerSecond'
  | 'eventCpuUs'

/** Runs every case for its part of the warm-up time, so that what is measured later is compiled code. */
export async function warmUp(gateway: Gateway, names: readonly CpuCaseName[], rig: Rig): Promise<void> {
  for (const name of names) await call(gateway, { name, seconds: rig.pace.warmUpSeconds / names.length }, rig)
}

/** CPU time a request, with all that it leaves to be done afterwards, and requests a second. */
export async function measureCpu(gateway: Gateway, name: CpuCaseName, rig: Rig): Promise<Measured[]> {
  await settled(gateway)
  const before = gateway.cpuSeconds()
  const { answered, seconds } = await call(gateway, { name, seconds: rig.pace.seconds }, rig)
  await settled(gateway)
  const cpuUs = ((gateway.cpuSeconds() - before) * 1e6) / answered
  return [
    { what: 'cpuUs', of: name, who: gateway.name, value: cpuUs },
    { what: 'requestsPerSecond', of: name, who: gateway.name, value: answered / seconds },
  ]
}

/** Requests a second of the upstream without a gateway: what the load generator and the upstream can do. */
export async function measureDirectly(name: CpuCaseName, rig: Rig): Promise<Measured> {
  const { answered, seconds } = await callDirectly({ name, seconds: rig.pace.seconds }, rig)
  return { what: 'requestsPerSecond', of: name, who: 'directly', value: answered / seconds }
}

/**
 * What a gateway adds to the time of a request at this rate: its times less those of the upstream called directly. Both
 * have been called at that rate right before: a gateway rests while others are measured, and who has rested is slow in
 * the first tenth of a second, which is more than one percent of what is measured.
 */
export async function measureAdded(
  gateway: Gateway,
  { name, rate }: { name: CaseName; rate: number },
  rig: Rig,
): Promise<Measured[]> {
  const { seconds } = rig.pace
  using _priority = goFirst(rig.toolPids)
  await callDirectly({ name, rate, seconds: leadInSeconds }, rig)
  const direct = await callDirectly({ name, rate, seconds }, rig)
  await settled(gateway)
  await call(gateway, { name, rate, seconds: leadInSeconds }, rig)
  const through = await call(gateway, { name, rate, seconds }, rig)
  return [
    { what: 'addedP50Us', of: name, who: gateway.name, value: through.requestUs.p50 - direct.requestUs.p50 },
    { what: 'addedP99Us', of: name, who: gateway.name, value: through.requestUs.p99 - direct.requestUs.p99 },
  ]
}

const leadInSeconds = 1.5

/** How much later a chunk of one of 1,000 slow streams arrives through each gateway than from the upstream directly. */
export async function measureChunkDelays(gateways: readonly Gateway[], rig: Rig): Promise<Measured[]> {
  using _priority = goFirst(rig.toolPids)
  const direct = await callDirectly({ name: 'slow', seconds: slowArrivalSeconds }, rig)
  const measured: Measured[] = []
  for (const gateway of gateways) {
    await settled(gateway)
    const through = await call(gateway, { name: 'slow', seconds: slowArrivalSeconds }, rig)
    measured.push(
      { what: 'addedToChunkP50Us', of: 'slow', who: gateway.name, value: through.chunkUs.p50 - direct.chunkUs.p50 },
      { what: 'addedToChunkP99Us', of: 'slow', who: gateway.name, value: through.chunkUs.p99 - direct.chunkUs.p99 },
    )
  }
  return measured
}

/**
 * What an open stream keeps in memory: what is resident with 1,000 of them less what was resident before, both without
 * garbage. Of a gateway that has not had so many connections yet: memory that it never gives back counts too.
 */
export async function measureStreamMemory(gateway: Gateway, rig: Rig): Promise<Measured> {
  await settled(gateway)
  const bytesBefore = await bytesInUse(gateway)
  const calling = call(gateway, { name: 'slow', seconds: slowArrivalSeconds }, rig)
  await pause(8_000)
  const bytesPerStream = ((await bytesInUse(gateway)) - bytesBefore) / cases.slow.connections
  await calling
  return { what: 'bytesPerStream', of: 'slow', who: gateway.name, value: bytesPerStream }
}

/** In which 1,000 slow streams begin; each then lasts 11 s. */
const slowArrivalSeconds = 2

async function bytesInUse(gateway: Gateway): Promise<number> {
  await gateway.collectGarbage()
  return gateway.residentBytes()
}

interface CallOptions {
  name: CaseName
  seconds: number
  /** In place of the case's own. */
  rate?: number | null
}

function call(gateway: Gateway, { name, seconds, rate }: CallOptions, rig: Rig): Promise<LoadResult> {
  const called = { ...cases[name], ...(rate === undefined ? {} : { rate }), seconds }
  return load({ ...called, ...gateway.call(name), port: gateway.port, body: bodyOf(name) }, rig)
}

function callDirectly({ name, seconds, rate }: CallOptions, rig: Rig): Promise<LoadResult> {
  const called = { ...cases[name], ...(rate === undefined ? {} : { rate }), seconds }
  const path = `/${called.upstream}/v1/chat/completions`
  const headers = [{ authorization: 'Bearer none' }]
  return load({ ...called, path, headers, status: 200, port: rig.upstreamPort, body: bodyOf(name) }, rig)
}
