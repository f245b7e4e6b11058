import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type CpuCaseName, cases, cpuCaseNames } from './cases.ts'
import { type Gateway, type GatewayName, gatewayNames, startGateway } from './gateways.ts'
import { compile } from './load.ts'
import { type Measured, measureCpu, type Rig, warmUp } from './measure.ts'
import { freePort, start } from './processes.ts'
import { ratios } from './report.ts'

/*
 * Tollgate beside nginx and Portkey, on one machine and in one run: `npm run bench`. For a rough reading of a few
 * things in a minute: `node bench/bench.ts --quick --only json,refused --gateways nginx,tollgate`.
 */
const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: cpuCaseNames.join() },
    gateways: { type: 'string', default: gatewayNames.join() },
  },
})
const pace = values.quick ? { rounds: 2, warmUpSeconds: 10, seconds: 3 } : { rounds: 3, warmUpSeconds: 20, seconds: 5 }
const names = chosen<CpuCaseName>(values.only, cpuCaseNames)

await using cleanUp = new AsyncDisposableStack()
const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-'))
cleanUp.defer(() => rmSync(folder, { recursive: true, force: true }))

const programs = await compile(folder)
const upstreamPort = await freePort()
cleanUp.use(await start({ program: programs.upstream, arguments: [String(upstreamPort)], port: upstreamPort }))
const rig: Rig = { program: programs.load, folder, upstreamPort, pace }

const gateways: Gateway[] = []
for (const name of chosen<GatewayName>(values.gateways, gatewayNames)) {
  say(`starting ${name} and warming it up`)
  const gateway = cleanUp.use(await startGateway[name]({ upstreamPort, folder: join(folder, name) }))
  await warmUp(gateway, names, rig)
  gateways.push(gateway)
}

const measured: Measured[] = []
for (let round = 1; round <= pace.rounds; round++) {
  for (const name of names) {
    say(`round ${round}: ${cases[name].title}`)
    for (const gateway of gateways) measured.push(...(await measureCpu(gateway, name, rig)))
  }
}
process.stdout.write(ratios(measured))

function chosen<Name extends string>(list: string, known: readonly Name[]): Name[] {
  return list.split(',').map((given) => {
    const name = known.find((one) => one === given)
    if (name === undefined) throw new Error(`${given} is none of ${known.join(', ')}.`)
    return name
  })
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}
