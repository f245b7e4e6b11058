import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { freePort } from '../test/support/free-port.ts'
import { measureBesideManagement } from './beside-management.ts'
import { cpuCaseNames } from './cases.ts'
import { gatewayNames } from './gateways.ts'
import { compile } from './load.ts'
import type { Measured, Rig } from './measure.ts'
import { mayGoFirst } from './priority.ts'
import { start } from './processes.ts'
import { recordRates } from './record-rates.ts'
import { report, shortReport } from './report.ts'
import { measureSideBySide } from './side-by-side.ts'
import { measureStoreSizes } from './store-size.ts'

/*
 * Tollgate beside nginx and Portkey, on one machine and in one run: `npm run bench` measures everything and writes
 * bench/results.md; docs/performance.md says what is measured and how. For a rough reading of a few things:
 *
 *   node bench/bench.ts --quick --only json,refused --gateways nginx,tollgate
 */
const parts = [...cpuCaseNames, 'added', 'streams', 'sizes', 'management', 'record'] as const
const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: parts.join() },
    gateways: { type: 'string', default: gatewayNames.join() },
  },
})
const only = chosen(values.only, parts)
const gateways = chosen(values.gateways, gatewayNames)
const pace = values.quick ? { rounds: 2, warmUpSeconds: 10, seconds: 3 } : { rounds: 3, warmUpSeconds: 20, seconds: 4 }

await using cleanUp = new AsyncDisposableStack()
const folder = mkdtempSync(join(tmpdir(), 'tollgate-bench-'))
cleanUp.defer(() => rmSync(folder, { recursive: true, force: true }))

if (gateways.includes('portkey')) await installPortkey()
const programs = await compile(folder)
const upstreamPort = await freePort()
const upstream = cleanUp.use(
  await start({ program: programs.upstream, arguments: [String(upstreamPort)], port: upstreamPort }),
)
const toolPids = mayGoFirst() ? [process.pid, upstream.pid] : []
const rig: Rig = { program: programs.load, folder, upstreamPort, toolPids, pace, say }

const measured: Measured[] = [
  ...(await measureSideBySide(
    {
      gateways,
      cpuCases: cpuCaseNames.filter((name) => only.includes(name)),
      isAddedTimeMeasured: only.includes('added'),
      areStreamsMeasured: only.includes('streams'),
    },
    rig,
  )),
  ...(only.includes('sizes') ? await measureStoreSizes(rig) : []),
  ...(only.includes('management') ? await measureBesideManagement(rig) : []),
  ...(only.includes('record') ? await recordRates(rig) : []),
]

const isWhole = !values.quick && only.length === parts.length && gateways.length === gatewayNames.length
const text = isWhole ? report(measured, rig) : shortReport(measured)
process.stdout.write(text)
if (isWhole) writeFileSync(join(import.meta.dirname, 'results.md'), text)

async function installPortkey(): Promise<void> {
  if (existsSync(join(import.meta.dirname, 'node_modules'))) return
  say('installing Portkey')
  await promisify(execFile)('npm', ['ci', '--ignore-scripts'], { cwd: import.meta.dirname })
}

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
