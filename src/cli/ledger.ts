import { once } from 'node:events'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type Config, processEnvironment, readConfig } from '../config.ts'
import { type ExportFormat, exportFormats, exportLedger } from '../ledger/export.ts'
import { type Disagreement, verifyLedger } from '../ledger/verify.ts'
import { openRecord } from '../storage/open-database.ts'
import { table } from './table.ts'

/** `tollgate ledger`: what an auditor asks of the record. Reads the database itself, beside a running server. */
export function addLedgerCommands(program: Command): void {
  const command = program.command('ledger').description('Verify and export the billing record.')
  command
    .command('verify')
    .description('Recompute positions, sequences, daily usage and delivery positions; exit code 1 on any disagreement.')
    .option('--data-dir <folder>', 'The data folder [TOLLGATE_DATA_DIR]')
    .action(async ({ dataDir }: { dataDir?: string }) => {
      await using database = await openRecord(settingsFor(dataDir))
      const disagreements = await database.snapshot((queries) => Array.fromAsync(verifyLedger(queries)))
      printDisagreements(disagreements)
      process.exitCode = disagreements.length === 0 ? 0 : 1
    })
  command
    .command('export')
    .description('Write events to standard output.')
    .option('--data-dir <folder>', 'The data folder [TOLLGATE_DATA_DIR]')
    .requiredOption('--from <time>', 'Recorded at or after this, ISO 8601', time)
    .option('--to <time>', 'Recorded before this, ISO 8601 (default: everything)', time)
    .option('--workspace <id>', 'Only of this workspace')
    .addOption(new Option('--format <format>', 'How').choices(exportFormats).default('jsonl'))
    .action(async (options: ExportOptions) => {
      await using database = await openRecord(settingsFor(options.dataDir))
      const texts = exportLedger(database.queries, {
        workspaceId: options.workspace ?? null,
        fromMs: options.from,
        toMs: options.to ?? Number.MAX_SAFE_INTEGER,
        format: options.format,
      })
      for await (const text of texts) if (!process.stdout.write(text)) await once(process.stdout, 'drain')
    })
}

interface ExportOptions {
  dataDir?: string
  from: number
  to?: number
  workspace?: string
  format: ExportFormat
}

function settingsFor(dataDir: string | undefined): Config {
  return readConfig(processEnvironment(), { TOLLGATE_DATA_DIR: dataDir })
}

export function printDisagreements(disagreements: readonly Disagreement[]): void {
  process.stdout.write(
    disagreements.length === 0
      ? 'The record agrees with all that was derived from it.\n'
      : table(
          ['WORKSPACE', 'WHAT', 'EXPECTED', 'FOUND'],
          disagreements.map(({ workspaceId, what, expected, found }) => [workspaceId, what, expected, found]),
        ),
  )
}

function time(given: string): number {
  const epochMs = Date.parse(given)
  if (Number.isNaN(epochMs)) throw new InvalidArgumentError('It must be a time like 2026-01-31T00:00:00Z.')
  return epochMs
}
