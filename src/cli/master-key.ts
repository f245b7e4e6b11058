import { renameSync } from 'node:fs'
import type { Command } from 'commander'
import { type Config, processEnvironment, readConfig } from '../config.ts'
import { StartError } from '../errors.ts'
import { keptNextMasterKey, masterKeyPath, nextMasterKeyPath, presentMasterKey } from '../generated-secrets.ts'
import { holdJournals } from '../ledger/left-journals.ts'
import type { Database } from '../storage/database.ts'
import { keepNodesAway } from '../storage/locks.ts'
import { openDatabase } from '../storage/open-database.ts'
import { SecretBox } from '../storage/secret-box.ts'
import { allSealed, areUnder } from './sealed-values.ts'

/** `tollgate master-key rotate`. */
export function addMasterKeyCommands(program: Command): void {
  const command = program.command('master-key').description('The key that encrypts stored secrets.')
  command
    .command('rotate')
    .description('Encrypt all stored secrets anew, under a new key. All nodes must be stopped.')
    .option('--data-dir <folder>', 'The data folder [TOLLGATE_DATA_DIR]')
    .action(async ({ dataDir }: { dataDir?: string }) => {
      await rotateMasterKey(readConfig(processEnvironment(), { TOLLGATE_DATA_DIR: dataDir }))
    })
}

/**
 * The new key is on disk before anything is encrypted with it, and takes the old one's place after the one transaction
 * that re-encrypts. Killed between the two, the next run finds which of them the database is under.
 */
async function rotateMasterKey(config: Config): Promise<void> {
  const { dataDir } = config
  await using database = await openDatabase(config, { mustExist: true })
  await using _journals = holdJournals(dataDir)
  const isShared = config.databaseUrl !== null
  if (isShared) await database.transaction(keepNodesAway)
  const path = masterKeyPath(dataDir)
  const nextPath = nextMasterKeyPath(dataDir)
  const present = new SecretBox(config.masterKey ?? presentMasterKey(dataDir))
  const nextKey = keptNextMasterKey(dataDir)
  const next = new SecretBox(nextKey)

  const isDone = await areUnder(next, database.queries)
  if (!isDone && (await areUnder(present, database.queries)) === false) {
    throw new StartError('The stored secrets are under another master key. Set TOLLGATE_MASTER_KEY to that one.')
  }
  const count = isDone ? 0 : await sealAnew(database, { from: present, to: next, isShared })
  if (config.masterKey === null) {
    renameSync(nextPath, path)
    const others = isShared ? ' Give every node that key.' : ''
    process.stderr.write(`${count} secrets are encrypted anew; the new key is in ${path}.${others}\n`)
  } else {
    process.stderr.write(
      `${count} secrets are encrypted anew. Set TOLLGATE_MASTER_KEY to this, then remove ${nextPath}:\n`,
    )
    process.stdout.write(`${nextKey.toString('base64')}\n`)
  }
}

/** Returns how many secrets there were. */
async function sealAnew(
  database: Database,
  { from, to, isShared }: { from: SecretBox; to: SecretBox; isShared: boolean },
): Promise<number> {
  return database.transaction(async ({ queries }) => {
    if (isShared) await keepNodesAway({ queries })
    const sealed = await allSealed(queries)
    for (const { table, column, id, purpose, value } of sealed) {
      const renewed = to.seal(from.open(value, purpose), purpose)
      await queries
        .updateTable(table)
        .set({ [column]: renewed })
        .where('id', '=', id)
        .execute()
    }
    return sealed.filter(({ table }) => table !== 'master_key_proofs').length
  })
}
