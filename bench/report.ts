import { type CpuCaseName, cpuCaseNames } from './cases.ts'
import { gatewayNames } from './gateways.ts'
import type { Measured } from './measure.ts'

/** CPU time a request in each case, and Tollgate's beside that of the others: a line a case. */
export function ratios(measured: readonly Measured[]): string {
  return cpuCaseNames.map((name) => caseLine(measured, name)).join('')
}

function caseLine(measured: readonly Measured[], name: CpuCaseName): string {
  const figures = gatewayNames.flatMap((who) => {
    const values = measured.filter((one) => one.what === 'cpuUs' && one.of === name && one.who === who)
    return values.length === 0 ? [] : [{ who, cpuUs: median(values.map(({ value }) => value)) }]
  })
  const own = figures.find(({ who }) => who === 'tollgate')
  const cells = figures.map(({ who, cpuUs }) => {
    const ratio = own === undefined || who === 'tollgate' ? '' : ` (${(own.cpuUs / cpuUs).toFixed(2)}×)`
    return `${who} ${cpuUs.toFixed(1)} µs${ratio}`
  })
  return cells.length === 0 ? '' : `${name.padEnd(8)} ${cells.join('   ')}\n`
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}
