import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type KeyKind, KeyUse, type KeyUseOptions } from '../../src/access/key-use.ts'
import { openLog } from '../../src/log.ts'
import type { Database } from '../../src/storage/database.ts'
import { openTestDatabase } from '../support/database-backends.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'

test('a use is written once others have had time to gather, in one write, and the latest one counts', async () => {
  await using stage = await openStage()
  for (const atMs of [1_000, 2_000, 3_000]) stage.keyUse.noted('federated', 'tk_1', atMs)
  stage.keyUse.noted('workspace', 'wk_1', 5_000)
  assert.equal(stage.clock.nextTimerMs(), 2_000)
  stage.clock.advance(1_999)
  assert.equal(await stage.lastUse('federated', 'tk_1'), null)
  stage.clock.advance(1)
  await until(async () => (await stage.lastUse('workspace', 'wk_1')) !== null)
  assert.equal(await stage.lastUse('federated', 'tk_1'), 3_000)
  assert.equal(await stage.lastUse('workspace', 'wk_1'), 5_000)
  assert.equal(await stage.lastUse('federated', 'tk_2'), null)
  assert.equal(stage.clock.nextTimerMs(), null)
})

test('an earlier use, written late by another node, does not take the place of a later one', async () => {
  await using stage = await openStage()
  for (const atMs of [9_000, 4_000]) {
    stage.keyUse.noted('federated', 'tk_1', atMs)
    await stage.keyUse.flush()
  }
  assert.equal(await stage.lastUse('federated', 'tk_1'), 9_000)
})

test('stopping writes what was noted', async () => {
  await using stage = await openStage()
  stage.keyUse.noted('federated', 'tk_1', 7_000)
  await stage.keyUse[Symbol.asyncDispose]()
  assert.equal(await stage.lastUse('federated', 'tk_1'), 7_000)
})

test('what the database did not take is written with the next uses, and no later use is lost to it', async () => {
  await using stage = await openStage()
  const { schema } = stage.database.queries
  await schema.alterTable('federated_keys').renameTo('away').execute()
  stage.keyUse.noted('federated', 'tk_1', 1_000)
  stage.keyUse.noted('federated', 'tk_2', 1_000)
  await stage.keyUse.flush()
  stage.keyUse.noted('federated', 'tk_2', 2_000)
  await schema.alterTable('away').renameTo('federated_keys').execute()
  await stage.keyUse.flush()
  assert.equal(await stage.lastUse('federated', 'tk_1'), 1_000)
  assert.equal(await stage.lastUse('federated', 'tk_2'), 2_000)
})

test('memory is bounded: uses of further keys are forgotten, those that are known go on counting', async () => {
  await using stage = await openStage({ keysMax: 1 })
  stage.keyUse.noted('federated', 'tk_1', 1_000)
  stage.keyUse.noted('federated', 'tk_2', 1_000)
  stage.keyUse.noted('federated', 'tk_1', 2_000)
  await stage.keyUse.flush()
  assert.equal(await stage.lastUse('federated', 'tk_1'), 2_000)
  assert.equal(await stage.lastUse('federated', 'tk_2'), null)
})

interface Stage extends AsyncDisposable {
  clock: ManualClock
  database: Database
  keyUse: KeyUse
  lastUse(kind: KeyKind, prefix: string): Promise<number | null>
}

/** A database with the keys `tk_1` and `tk_2` of a customer and `wk_1` of a workspace. */
async function openStage(options: Pick<KeyUseOptions, 'keysMax'> = {}): Promise<Stage> {
  await using started = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-key-use-'))
  started.defer(() => rm(folder, { recursive: true, force: true }))
  const database = started.use(await openTestDatabase(folder))
  await addKeys(database)
  const clock = new ManualClock()
  const keyUse = started.use(new KeyUse({ database, clock, log: openLog({ level: 'silent' }), ...options }))
  const parts = started.move()
  return {
    clock,
    database,
    keyUse,
    async lastUse(kind, prefix) {
      const { last_used_at } = await database.queries
        .selectFrom(kind === 'federated' ? 'federated_keys' : 'workspace_keys')
        .select('last_used_at')
        .where('prefix', '=', prefix)
        .executeTakeFirstOrThrow()
      return last_used_at
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

async function addKeys({ queries }: Database): Promise<void> {
  await queries
    .insertInto('workspaces')
    .values({
      id: 'w',
      name: 'w',
      onboarded: 1,
      org_prefixes: '[]',
      key_prefix: 'tk_',
      register_public_key: null,
      created_at: 0,
    })
    .execute()
  const key = { workspace_id: 'w', name: null, created_at: 0, last_used_at: null, revoked_at: null }
  const federated = (prefix: string) => ({ ...key, id: prefix, prefix, hash: prefix, group_id: 'g', expires_at: null })
  await queries
    .insertInto('federated_keys')
    .values([federated('tk_1'), federated('tk_2')])
    .execute()
  await queries
    .insertInto('workspace_keys')
    .values({
      ...key,
      id: 'wk_1',
      prefix: 'wk_1',
      hash: 'wk_1',
      type: 'WORKSPACE_INVOKE',
      team_id: null,
      person_id: null,
      model_ids: null,
      environments: null,
    })
    .execute()
}
