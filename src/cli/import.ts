import { constants, copyFileSync, existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../clock.ts'
import { type Config, processEnvironment, readConfig } from '../config.ts'
import { releaseClaims } from '../delivery/delivery-claims.ts'
import { StartError } from '../errors.ts'
import { masterKeyPath, openDataDir, operatorKeyPath } from '../generated-secrets.ts'
import { openLedger } from '../ledger/ledger.ts'
import { ledgerWriter } from '../ledger/ledger-writer.ts'
import { holdJournals } from '../ledger/left-journals.ts'
import { startShipper } from '../ledger/shipper.ts'
import { verifyLedger } from '../ledger/verify.ts'
import { openLog } from '../log.ts'
import { type Database, openEmbeddedDatabase, type Transaction } from '../storage/database.ts'
import { keepNodesAway } from '../storage/locks.ts'
import { embeddedDatabasePath } from '../storage/open-database.ts'
import { openPostgresDatabase, openPostgresRecord } from '../storage/postgres.ts'
import { SecretBox } from '../storage/secret-box.ts'
import { type CopiedTable, copyInstallation, filledTables } from '../storage/table-copy.ts'
import { printDisagreements } from './ledger.ts'
import { areUnder } from './sealed-values.ts'
import { table } from './table.ts'

/** `tollgate import`: from one process and its folder to a PostgreSQL that many share. */
export function addImportCommand(program: Command): void {
  program
    .command('import')
    .description(
      'Move an embedded installation into the empty PostgreSQL of TOLLGATE_DATABASE_URL. It must be stopped.',
    )
    .requiredOption('--from <folder>', 'The data folder of the installation')
    .option('--data-dir <folder>', 'The data folder of the node to come [TOLLGATE_DATA_DIR]')
    .action(async ({ from, dataDir }: { from: string; dataDir?: string }) => {
      await importInstallation(from, readConfig(processEnvironment(), { TOLLGATE_DATA_DIR: dataDir }))
    })
}

/**
 * What the journals hold is shipped first, to where it was meant for. Then everything is copied in one transaction, which
 * ends once all rows have been counted: killed at any moment, the target is empty as before, and the installation can
 * still be served from its folder.
 */
async function importInstallation(from: string, config: Config): Promise<void> {
  const { databaseUrl, dataDir } = config
  if (databaseUrl === null) throw new StartError('TOLLGATE_DATABASE_URL must say which PostgreSQL to import into.')
  await using source = await openStoppedInstallation(from)
  assertMasterKey(await areUnder(masterKeyOf(from, config), source.queries))
  if (resolve(from) !== resolve(dataDir)) copyKeyFiles(from, dataDir)

  await (await openPostgresDatabase({ url: databaseUrl }))[Symbol.asyncDispose]()
  await using target = await openPostgresRecord({ url: databaseUrl })
  const copied = await target.transaction(async (transaction) => {
    await keepNodesAway(transaction)
    await assertEmpty(transaction)
    return copyInstallation(source.queries, transaction)
  })
  printCopied(copied)
  const disagreements = await target.snapshot((queries) => Array.fromAsync(verifyLedger(queries)))
  printDisagreements(disagreements)
  if (disagreements.length > 0) process.exitCode = 1
  process.stderr.write(`Everything in ${from} has been imported. Do not serve from that folder's database again.\n`)
}

interface StoppedInstallation extends AsyncDisposable {
  queries: Database['queries']
}

/** The installation in `folder`, with nothing left in its journals, which nobody can serve until it is disposed of. */
async function openStoppedInstallation(folder: string): Promise<StoppedInstallation> {
  await using opened = new AsyncDisposableStack()
  const path = embeddedDatabasePath(folder)
  if (!existsSync(path)) throw new StartError(`There is no installation in ${folder}.`)
  const { journals } = opened.use(holdJournals(folder))
  const database = opened.use(await openEmbeddedDatabase(path, { mustExist: true }))
  const ledger = ledgerWriter(openLedger({ database }))
  const quiet = { log: openLog({ level: 'silent' }), metrics: { shippingFailed() {} } }
  for (const journal of journals) {
    await using shipper = startShipper({ journal, ledger, clock: systemClock, ...quiet })
    await shipper.flush()
  }
  await releaseClaims(database.queries)
  const parts = opened.move()
  return { queries: database.queries, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

/** What the installation's secrets are under, and the node to come will have. */
function masterKeyOf(from: string, { masterKey }: Config): SecretBox {
  if (masterKey !== null) return new SecretBox(masterKey)
  const path = masterKeyPath(from)
  if (!existsSync(path)) throw new StartError(`There is no master key in ${from}. Set TOLLGATE_MASTER_KEY to it.`)
  return new SecretBox(Buffer.from(readFileSync(path, 'utf8').trim(), 'base64'))
}

function assertMasterKey(areUnderIt: boolean | null): void {
  if (areUnderIt === false) {
    throw new StartError(
      "The installation's secrets are under another master key. Set TOLLGATE_MASTER_KEY to that one.",
    )
  }
}

/** Brings the generated keys along; throws where the node to come has others. */
function copyKeyFiles(from: string, to: string): void {
  openDataDir(to)
  for (const pathIn of [masterKeyPath, operatorKeyPath]) {
    const [source, target] = [pathIn(from), pathIn(to)]
    if (!existsSync(source)) continue
    if (!existsSync(target)) copyFileSync(source, target, constants.COPYFILE_EXCL)
    else if (readFileSync(target, 'utf8') !== readFileSync(source, 'utf8')) {
      throw new StartError(`${target} holds another key than ${source}. Import into a new data folder.`)
    }
  }
}

async function assertEmpty({ queries }: Transaction): Promise<void> {
  const [first] = await filledTables(queries)
  if (first !== undefined) {
    throw new StartError(`The database of TOLLGATE_DATABASE_URL is not empty: ${first.table} has ${first.rows} rows.`)
  }
}

function printCopied(copied: readonly CopiedTable[]): void {
  const rows = copied.map((one) => [one.table, String(one.rows)])
  process.stdout.write(table(['TABLE', 'ROWS'], rows))
}
