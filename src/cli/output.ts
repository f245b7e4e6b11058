import { Option } from 'commander'
import { table } from './table.ts'

export const outputFormats = ['table', 'json'] as const
export type OutputFormat = (typeof outputFormats)[number]

/** `-o table|json`, for commands that show things. A new option for each command. */
export function outputOption(): Option {
  return new Option('-o, --output <format>', 'How to show it').choices(outputFormats).default('table')
}

/** Prints rows on standard output: for people in columns, for programs as JSON with all fields. */
export function printRows(
  rows: readonly Record<string, unknown>[],
  columns: readonly string[],
  format: OutputFormat,
): void {
  const text =
    format === 'json'
      ? `${JSON.stringify(rows, null, 2)}\n`
      : table(
          columns.map((column) => column.toUpperCase().replaceAll('_', ' ')),
          rows.map((row) => columns.map((column) => cell(row[column]))),
        )
  process.stdout.write(text)
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return '-'
  return Array.isArray(value) ? value.join(', ') : String(value)
}
