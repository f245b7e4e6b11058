import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { type CpuCaseName, cases } from './cases.ts'
import { type Gateway, type GatewayName, startGateway } from './gateways.ts'
import { inTurn } from './in-turn.ts'
import {
  type Measured,
  measureAdded,
  measureChunkDelays,
  measureCpu,
  measureDirectly,
  measureStreamMemory,
  type Rig,
  warmUp,
} from './measure.ts'
import { median } from './median.ts'

export interface SideBySideOptions {
  gateways: readonly GatewayName[]
  cpuCases: readonly CpuCaseName[]
  /** Of the cases whose CPU time is measured too. */
  isAddedTimeMeasured: boolean
  areStreamsMeasured: boolean
}

/** The gateways, all running all the time, measured in turn and round after round: a noisy minute hits them all. */
export async function measureSideBySide(options: SideBySideOptions, rig: Rig): Promise<Measured[]> {
  const { cpuCases, isAddedTimeMeasured, areStreamsMeasured } = options
  if (cpuCases.length === 0 && !areStreamsMeasured) return []
  await using opened = new AsyncDisposableStack()
  const gateways: Gateway[] = []
  for (const name of options.gateways) gateways.push(opened.use(await started(name, cpuCases, rig)))

  const measured: Measured[] = []
  for (let round = 1; round <= rig.pace.rounds; round++) {
    const inOrder = inTurn(gateways, round)
    for (const name of cpuCases) {
      rig.say(`round ${round}: ${cases[name].title}`)
      const able = inOrder.filter((gateway) => canServe(gateway, name))
      for (const gateway of able) measured.push(...(await measureCpu(gateway, name, rig)))
      if (cases[name].rate !== null || name === 'refused') continue
      measured.push(await measureDirectly(name, rig))
      if (!isAddedTimeMeasured) continue
      for (const gateway of able) {
        measured.push(...(await measureAdded(gateway, { name, rate: halfLoad(measured, gateway, name) }, rig)))
      }
    }
    if (!areStreamsMeasured) continue
    rig.say(`round ${round}: ${cases.slow.title}`)
    measured.push(...(await measureChunkDelays(inOrder, rig)))
    for (const name of options.gateways) {
      await using fresh = await started(name, ['json', 'chunks'], rig)
      measured.push(await measureStreamMemory(fresh, rig))
    }
  }
  return measured
}

async function started(name: GatewayName, cpuCases: readonly CpuCaseName[], rig: Rig): Promise<Gateway> {
  rig.say(`starting ${name} and warming it up`)
  const gateway = await startGateway[name]({
    upstreamPort: rig.upstreamPort,
    folder: mkdtempSync(join(rig.folder, `${name}-`)),
  })
  await warmUp(gateway, cpuCases, rig)
  return gateway
}

/** Portkey has no limits. nginx has none here either, but its plain request is what a refusal is measured against. */
function canServe({ name }: Gateway, caseName: CpuCaseName): boolean {
  return !(name === 'portkey' && caseName === 'refused')
}

/** Half of what Tollgate was seen to serve in a second, or half of what this gateway was, if that is less. */
function halfLoad(measured: readonly Measured[], { name }: Gateway, of: CpuCaseName): number {
  const seen = [name, 'tollgate'].flatMap((who) => {
    const rates = measured.filter((one) => one.what === 'requestsPerSecond' && one.of === of && one.who === who)
    return rates.length === 0 ? [] : [median(rates.map(({ value }) => value))]
  })
  return Math.floor(Math.min(...seen) / 2)
}
