import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { signingSecretPurpose } from '../access/signing-secret.ts'
import { type Config, processEnvironment, readConfig } from '../config.ts'
import { masterKeyPath, nextMasterKeyPath, presentMasterKey } from '../generated-secrets.ts'
import { openJournal } from '../ledger/journal.ts'
import { presentJournals } from '../ledger/left-journals.ts'
import { openLog } from '../log.ts'
import { answerPurpose } from '../management/idempotency.ts'
import { openMetrics } from '../metrics.ts'
import { type Database, openEmbeddedDatabase, type Queries } from '../storage/database.ts'
import { SecretBox, secretPurpose } from '../storage/secret-box.ts'

/** `tollgate master-key rotate`. */
export function addMasterKeyCommands(program: Command): void {
  const command = program.command('master-key').description('The key that encrypts stored secrets.')
  command
    .command('rotate')
    .description('Encrypt all stored secrets anew, under a new key. The server must be stopped.')
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
  await using database = await openEmbeddedDatabase(join(dataDir, 'tollgate.db'), { mustExist: true })
  // A server has its journals open, one for each process: whoever has them all knows that none runs, nor can start.
  await using journals = new AsyncDisposableStack()
  for (const name of new Set(['journal.db', ...presentJournals(dataDir)])) {
    const quiet = { sync: 'normal', log: openLog({ level: 'silent' }), metrics: openMetrics() } as const
    journals.use(openJournal({ path: join(dataDir, name), ...quiet }))
  }
  const path = masterKeyPath(dataDir)
  const nextPath = nextMasterKeyPath(dataDir)
  const present = new SecretBox(config.masterKey ?? presentMasterKey(dataDir))
  if (!existsSync(nextPath)) {
    writeFileSync(nextPath, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600, flag: 'wx', flush: true })
  }
  const nextText = readFileSync(nextPath, 'utf8').trim()
  const next = new SecretBox(Buffer.from(nextText, 'base64'))

  const count = (await isUnder(next, database.queries)) ? 0 : await sealAnew(database, { from: present, to: next })
  if (config.masterKey === null) {
    renameSync(nextPath, path)
    process.stderr.write(`${count} secrets are encrypted anew; the new key is in ${path}.\n`)
  } else {
    process.stderr.write(
      `${count} secrets are encrypted anew. Set TOLLGATE_MASTER_KEY to this, then remove ${nextPath}:\n`,
    )
    process.stdout.write(`${nextText}\n`)
  }
}

interface Sealed {
  table: 'secrets' | 'webhooks' | 'idempotent_answers'
  column: 'sealed_value' | 'sealed_secret' | 'sealed_previous_secret' | 'sealed_answer'
  id: string
  purpose: string
  value: string
}

async function sealAnew(database: Database, { from, to }: { from: SecretBox; to: SecretBox }): Promise<number> {
  return database.transaction(async ({ queries }) => {
    const sealed = await allSealed(queries)
    for (const { table, column, id, purpose, value } of sealed) {
      const renewed = to.seal(from.open(value, purpose), purpose)
      await queries
        .updateTable(table)
        .set({ [column]: renewed })
        .where('id', '=', id)
        .execute()
    }
    return sealed.length
  })
}

/** Whether an earlier run got as far as its commit. */
async function isUnder(box: SecretBox, queries: Queries): Promise<boolean> {
  const [first] = await allSealed(queries)
  if (first === undefined) return false
  try {
    box.open(first.value, first.purpose)
    return true
  } catch {
    return false
  }
}

async function allSealed(queries: Queries): Promise<Sealed[]> {
  const secrets = await queries.selectFrom('secrets').selectAll().execute()
  const webhooks = await queries.selectFrom('webhooks').selectAll().execute()
  const answers = await queries.selectFrom('idempotent_answers').selectAll().execute()
  return [
    ...secrets.map((row): Sealed => {
      return {
        table: 'secrets',
        column: 'sealed_value',
        id: row.id,
        purpose: secretPurpose(row),
        value: row.sealed_value,
      }
    }),
    ...webhooks.flatMap(({ id, sealed_secret, sealed_previous_secret }): Sealed[] => {
      const shared = { table: 'webhooks' as const, id, purpose: signingSecretPurpose(id) }
      const previous: Sealed[] =
        sealed_previous_secret === null
          ? []
          : [{ ...shared, column: 'sealed_previous_secret', value: sealed_previous_secret }]
      return [{ ...shared, column: 'sealed_secret', value: sealed_secret }, ...previous]
    }),
    ...answers.map(({ id, sealed_answer }): Sealed => {
      const purpose = answerPurpose(id)
      return { table: 'idempotent_answers', column: 'sealed_answer', id, purpose, value: sealed_answer }
    }),
  ]
}
