import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { activities } from './beside-management.ts'
import { cases, cpuCaseNames } from './cases.ts'
import { gatewayNames } from './gateways.ts'
import type { Measured, Quantity, Rig } from './measure.ts'
import { median } from './median.ts'
import { storeSizes } from './store-size.ts'

const columnNames = ['directly', ...gatewayNames]

/** Everything that was measured as one table, with the targets and whether they are reached, and what to know of it. */
export function report(measured: readonly Measured[], rig: Rig): string {
  const lines = rows.flatMap((row) => {
    const figures = figuresOf(row, measured)
    if (figures.size === 0) return []
    const cells = columnNames.map((who) => cell(figures.get(who), row))
    const verdicts = (row.targets ?? []).map((target) => target(figures, measured))
    return tableLine([
      row.title,
      ...cells,
      verdicts.map(({ target }) => target).join('; '),
      verdicts.map(({ isReached, reading }) => `${isReached ? 'yes' : '**no**'}: ${reading}`).join('; '),
    ])
  })
  return [
    '# Results of `npm run bench`',
    '',
    preamble(rig),
    '',
    tableLine(['', 'upstream directly', 'nginx', 'Portkey', 'Tollgate', 'target', 'reached']),
    tableLine(['---', '---:', '---:', '---:', '---:', '---', '---']),
    ...lines,
    '',
    notes,
    '',
  ].join('\n')
}

/** The medians alone, a line a quantity, with Tollgate's CPU time beside that of the others. */
export function shortReport(measured: readonly Measured[]): string {
  const lines = rows.flatMap((row) => {
    const figures = figuresOf(row, measured)
    const own = middleOf(figures, 'tollgate')
    const cells = [...figures].map(([who, values]) => {
      const middle = median(values)
      const times = row.what === 'cpuUs' && who !== 'tollgate' ? ` (tollgate ${(own / middle).toFixed(2)}×)` : ''
      return `${who} ${amount(middle, row.what)}${times}`
    })
    return cells.length === 0 ? [] : `${row.title}: ${cells.join(', ')}\n`
  })
  return lines.join('')
}

/** A line of the table: a quantity, in each column where it was measured. */
interface Row {
  title: string
  what: Quantity
  of: string
  targets?: readonly Target[]
}

/** The values of all rounds, by column. */
type Figures = ReadonlyMap<string, readonly number[]>
type Target = (
  figures: Figures,
  measured: readonly Measured[],
) => { target: string; isReached: boolean; reading: string }

const cpuTargets = {
  json: [atMostTimes(5, 'nginx'), timesLess(8)],
  chunks: [atMostTimes(4, 'nginx'), timesLess(8)],
  paced: [atMostTimes(2.6, 'nginx'), timesLess(3.5)],
  prompt: [atMostTimes(4, 'nginx'), timesLess(10)],
  refused: [atMostTimes(3, 'nginx')],
}
const withoutPause = ['json', 'chunks', 'prompt'] as const
const recordSteps = [
  { of: 'journal', title: 'journal, 64 appends at a time' },
  { of: 'ledger', title: 'from the journal to the ledger' },
  { of: 'webhook', title: 'from the ledger to a webhook' },
]

const rows: readonly Row[] = [
  ...cpuCaseNames.map((name) => ({
    title: `CPU a request: ${cases[name].title}`,
    what: 'cpuUs' as const,
    of: name,
    targets: cpuTargets[name],
  })),
  ...withoutPause.map((name) => ({
    title: `requests a second: ${cases[name].title}`,
    what: 'requestsPerSecond' as const,
    of: name,
  })),
  { title: `requests a second: ${cases.refused.title}`, what: 'requestsPerSecond', of: 'refused' },
  ...withoutPause.flatMap((name) => [
    { title: `p50 added at half load: ${cases[name].title}`, what: 'addedP50Us' as const, of: name },
    {
      title: `p99 added at half load: ${cases[name].title}`,
      what: 'addedP99Us' as const,
      of: name,
      targets: [atMost(1_000, '1 ms')],
    },
  ]),
  { title: `p50 added to a chunk: ${cases.slow.title}`, what: 'addedToChunkP50Us', of: 'slow' },
  {
    title: `p99 added to a chunk: ${cases.slow.title}`,
    what: 'addedToChunkP99Us',
    of: 'slow',
    targets: [atMost(1_000, '1 ms')],
  },
  {
    title: `memory an open stream: ${cases.slow.title}`,
    what: 'bytesPerStream',
    of: 'slow',
    targets: [atMost(25_000, '25 kB')],
  },
  ...storeSizes.map(({ title, customers }) => ({
    title: `CPU a request: small JSON, ${title}`,
    what: 'cpuUs' as const,
    of: title,
    targets: customers > 10 && customers <= 100_000 ? [atMostTimesSmallestStore(1.1)] : [],
  })),
  ...activities.map(({ of, title }) => ({
    title: `p99 of small JSON requests while the lab ${title}`,
    what: 'requestP99Us' as const,
    of,
  })),
  ...recordSteps.flatMap(({ of, title }) => [
    { title: `events a second: ${title}`, what: 'eventsPerSecond' as const, of },
    { title: `CPU an event: ${title}`, what: 'eventCpuUs' as const, of },
  ]),
]

function atMostTimes(times: number, who: string): Target {
  return (figures) => {
    const reading = middleOf(figures, 'tollgate') / middleOf(figures, who)
    return { target: `≤ ${times} × ${who}`, isReached: reading <= times, reading: `${reading.toFixed(2)} ×` }
  }
}

function timesLess(times: number): Target {
  return (figures) => {
    const reading = middleOf(figures, 'portkey') / middleOf(figures, 'tollgate')
    return { target: `≤ Portkey / ${times}`, isReached: reading >= times, reading: `/ ${reading.toFixed(1)}` }
  }
}

function atMost(max: number, target: string): Target {
  return (figures) => {
    const reading = middleOf(figures, 'tollgate')
    return { target: `≤ ${target}`, isReached: reading <= max, reading: `${(reading / 1_000).toFixed(2)}` }
  }
}

function atMostTimesSmallestStore(times: number): Target {
  return (figures, measured) => {
    const smallest = valuesOf(measured, { what: 'cpuUs', of: String(storeSizes[0]?.title), who: 'tollgate' })
    const reading = middleOf(figures, 'tollgate') / median(smallest)
    return { target: `≤ ${times} × that of 10`, isReached: reading <= times, reading: `${reading.toFixed(2)} ×` }
  }
}

function figuresOf({ what, of }: Row, measured: readonly Measured[]): Figures {
  const columns = columnNames.map((who) => [who, valuesOf(measured, { what, of, who })] as const)
  return new Map(columns.filter(([, values]) => values.length > 0))
}

function valuesOf(measured: readonly Measured[], { what, of, who }: Omit<Measured, 'value'>): number[] {
  return measured.filter((one) => one.what === what && one.of === of && one.who === who).map(({ value }) => value)
}

function middleOf(figures: Figures, who: string): number {
  return median(figures.get(who) ?? [])
}

/** The median of the rounds, and the least and the most of them. */
function cell(values: readonly number[] | undefined, { what }: Row): string {
  if (values === undefined) return ''
  const bare = (value: number) => unitOf[what].text(value)
  const spread = values.length === 1 ? '' : ` (${bare(Math.min(...values))}–${bare(Math.max(...values))})`
  return `${amount(median(values), what)}${spread}`
}

function amount(value: number, what: Quantity): string {
  return `${unitOf[what].text(value)} ${unitOf[what].name}`.trimEnd()
}

const inMicroseconds = { name: 'µs', text: (value: number) => value.toFixed(value < 100 ? 1 : 0) }
const inMilliseconds = { name: 'ms', text: (value: number) => (value / 1_000).toFixed(2) }
const inUnits = { name: '', text: (value: number) => Math.round(value).toLocaleString('en') }
const unitOf: Record<Quantity, { name: string; text(value: number): string }> = {
  cpuUs: inMicroseconds,
  eventCpuUs: inMicroseconds,
  requestP99Us: inMilliseconds,
  addedP50Us: inMilliseconds,
  addedP99Us: inMilliseconds,
  addedToChunkP50Us: inMilliseconds,
  addedToChunkP99Us: inMilliseconds,
  bytesPerStream: { name: 'kB', text: (value) => (value / 1_000).toFixed(1) },
  requestsPerSecond: inUnits,
  eventsPerSecond: inUnits,
}

function tableLine(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function preamble({ pace, toolPids }: Rig): string {
  const { rounds, warmUpSeconds, seconds } = pace
  const nginx = /[\d.]+/.exec(String(spawnSync('nginx', ['-v']).stderr))?.[0]
  const { dependencies }: { dependencies: Record<string, string> } = JSON.parse(
    readFileSync(join(import.meta.dirname, 'package.json'), 'utf8'),
  )
  const portkey = dependencies['@portkey-ai/gateway']
  const day = new Date().toISOString().slice(0, 10)
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`
  return `\
${day}; ${machine}; Linux ${release()}; Node ${process.version}; nginx ${nginx}; Portkey's gateway ${portkey}.
Every process was warmed up for ${warmUpSeconds} s; ${rounds} rounds in turn, ${seconds} s a measurement. Medians of the rounds, and in brackets
the least and the most of them. ${toolPids.length > 0 ? toolsGoFirst : toolsWait}`
}

const toolsGoFirst = `Where the time of requests or chunks is measured, the load generator and the upstream
have a processor before all others, so that their waits are not counted as a gateway's.`
const toolsWait = `The load generator and the upstream wait for a processor like all others, and
their waits are counted as a gateway's: to let them go first takes root, or CAP_SYS_NICE.`

const notes = `\
- **Tollgate** does all of its work: it authenticates a key, holds requests and tokens a minute and tokens a day at each of three levels
  of a CASCADING tree, reserves and settles, and has an event on disk before a response ends. Its CPU time includes what that
  leaves to be done: shipping the events to the ledger and the daily usage.
- **nginx** is a plain proxy: no less can be done for a request. A refusal is measured against its plain request.
- **Portkey's gateway** authenticates, limits and meters nothing. It runs on the same Node. As npm installs it, it answers every stream
  with 500; measured is the one mended by \`overrides\` of @hono/node-server to 1.13.8. Where a rate is given, it gets half of what it can
  serve itself, which is less than the others get.
- One process of each serves. The load generator and the upstream share the machine with it, so that requests a second are those of
  this machine; the CPU time is the figure that holds elsewhere.
`
