import { once } from 'node:events'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { processEnvironment, readConfig } from '../config.ts'
import { type ExportFormat, exportFormats, exportLedger } from '../ledger/export.ts'
import { type Disagreement, verifyLedger } from '../ledger/verify.ts'
import type { Database } from '../storage/database.ts'
import { openDatabase } from '../storage/open-database.ts'
import { table } from './table.ts'

/** `tollgate ledger`: what an auditor asks of the record. Reads the database itself, beside a running server. */
export function addLedgerCommands(program: Command): void {
  const command = program.command('ledger').description('Verify and export the billing record.')
  command
    .command('verify')
    .description('Recompute positions, sequences, daily usage and delivery positions; exit code 1 on any disagreement.')
    .option('--data-dir <folder>', 'The data folder [TOLLGATE_DATA_DIR]')
    .action(async ({ dataDir }: { dataDir?: string }) => {
      await using database = await openRecord(dataDir)
      process.exitCode = (await printDisagreements(verifyLedger(database.queries))) === 0 ? 0 : 1
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
      await using database = await openRecord(options.dataDir)
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

function openRecord(dataDir: string | undefined): Promise<Database> {
  return openDatabase(readConfig(processEnvironment(), { TOLLGATE_DATA_DIR: dataDir }), { mustExist: true })
}

async function printDisagreements(found: AsyncIterable<Disagreement>): Promise<number> {
  const disagreements = await Array.fromAsync(found)
  process.stdout.write(
    disagreements.length === 0
      ? 'The record agrees with all that was derived from it.\n'
      : table(
          ['WORKSPACE', 'WHAT', 'EXPECTED', 'FOUND'],
          disagreements.map(({ workspaceId, what, expected, found }) => [workspaceId, what, expected, found]),
        ),
  )
  return disagreements.length
}

function time(given: string): number {
  const epochMs = Date.parse(given)
  if (Number.isNaN(epochMs)) throw new InvalidArgumentError('It must be a time like 2026-01-31T00:00:00Z.')
  return epochMs
}
