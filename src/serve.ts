import { join } from 'node:path'
import { KeyUse } from './access/key-use.ts'
import { type Clock, inTime, sleep, systemClock, utcDay } from './clock.ts'
import type { Config } from './config.ts'
import { startDispatcher } from './delivery/dispatcher.ts'
import { sendTestEvent } from './delivery/test-event.ts'
import { keptMasterKey, keptOperatorKey, openDataDir } from './generated-secrets.ts'
import { openInferencePlane } from './inference-plane.ts'
import { journalsReleased } from './ledger/journals-released.ts'
import { openLedger } from './ledger/ledger.ts'
import { openLedgerWriter } from './ledger/ledger-writer.ts'
import { journalNames, shipLeftJournals } from './ledger/left-journals.ts'
import { startRetention } from './ledger/retention.ts'
import { openCounters } from './limits/open-counters.ts'
import { listen } from './listen.ts'
import { openLog } from './log.ts'
import { startForgettingAnswers } from './management/idempotency.ts'
import { closeManagementListener, openManagementListener } from './management/listener.ts'
import { createBootstrapWorkspace } from './management/workspaces.ts'
import { metricsText, openMetrics } from './metrics.ts'
import { openPostbox } from './outbound.ts'
import { ChangeLog } from './storage/change-log.ts'
import { proveMasterKey } from './storage/master-key-proof.ts'
import { openDatabase, openForInference } from './storage/open-database.ts'
import { SecretBox } from './storage/secret-box.ts'
import { followChanges, keepChange } from './storage/shared-changes.ts'
import { openWorkerPool } from './workers/worker-pool.ts'

export interface RunningServer extends AsyncDisposable {
  /** Base URLs, without a slash at their end. */
  inference: string
  management: string
  /** The full-access key of the first workspace, if this start generated it: the only time it is known. */
  generatedBootstrapKey: string | null
  /** Where the operator key comes from, for the banner. */
  dataDir: string
}

/** How long a stop waits for management's requests, which had the time of the customers' requests before. */
const managementMsMax = 5_000
/** How long a stop ships what workers have left. */
const leftJournalsMsMax = 5_000

/**
 * Builds the parts, starts them in the order in which they need one another, and resolves once both listeners
 * accept connections. Disposing of it says that it is not ready, stops accepting, lets requests in flight finish,
 * ships what the journal holds and closes everything, in that order (contract §2).
 */
export async function serve(config: Config, { clock = systemClock }: { clock?: Clock } = {}): Promise<RunningServer> {
  await using started = new AsyncDisposableStack()
  const log = openLog({ level: config.logLevel })
  const metrics = openMetrics()

  openDataDir(config.dataDir)
  const masterKey = config.masterKey ?? keptMasterKey(config.dataDir)
  const secretBox = new SecretBox(masterKey)
  const operatorKey = config.operatorKey ?? keptOperatorKey(config.dataDir)

  const database = started.use(await openDatabase(config))
  await proveMasterKey(database, secretBox)
  const { generatedKey } = await createBootstrapWorkspace(database, { key: config.bootstrapKey, clock })
  const inferenceDatabase = started.use(openForInference(database, config))
  const keyUse = started.use(new KeyUse({ database: inferenceDatabase, clock, log }))

  const ledger = openLedger({ database })
  const ledgerWriter = started.use(openLedgerWriter(inferenceDatabase, config))
  const counters = started.use(
    await openCounters({
      ...config,
      readUsage: (query) => ledger.usageOfHierarchy(query),
      recordedDay: (day) => ledger.usageOfDay(day),
      clock,
      log,
      metrics,
    }),
  )
  await journalsReleased(config.dataDir, { clock, log })
  const journals = journalNames(config.workers)
  await shipLeftJournals(config.dataDir, journals, { ledger: ledgerWriter, clock, log, metrics })
  const journalPaths = journals.map((name) => join(config.dataDir, name))
  const pool =
    config.workers === 1 ? null : await openWorkerPool({ config, masterKey, journalPaths, counters, clock, log })
  if (pool !== null) {
    // What a worker has left that had to be killed.
    started.defer(async () => {
      const shipped = shipLeftJournals(config.dataDir, [], { ledger: ledgerWriter, clock, log, metrics })
      const late = () => new Error('The ledger does not take them in time.')
      await inTime(clock, shipped, { withinMs: leftJournalsMsMax, late }).catch((cause) => {
        log.warn({ err: cause }, 'events stay in the journal of a worker; the next start ships them')
      })
    })
    started.use(pool)
  }
  const plane =
    pool ??
    started.use(
      await openInferencePlane({
        config,
        database: inferenceDatabase,
        ledgerWriter,
        journalPath: String(journalPaths[0]),
        secretBox,
        counters,
        keyUse,
        clock,
        log,
        metrics,
      }),
    )
  const today = utcDay(clock.now())
  for await (const sums of ledger.usageOfDay(today)) await counters.seedDay(today, sums)

  const { databaseUrl } = config
  const changeLog = new ChangeLog({ keep: databaseUrl === null ? null : keepChange })
  changeLog.subscribe((change) => plane.invalidate(change))
  const follower =
    databaseUrl === null ? null : started.use(await followChanges({ url: databaseUrl, changeLog, clock, log, metrics }))

  const postbox = started.use(openPostbox({ clock }))
  const dispatcher = started.use(
    await startDispatcher({ database, postbox, secretBox, clock, log, metrics, isAlone: databaseUrl === null }),
  )
  plane.onShipped((workspaceIds) => dispatcher.recordGrew(workspaceIds))

  started.use(startRetention({ database, clock, log, metrics, retentionDays: config.ledgerRetentionDays }))
  started.use(startForgettingAnswers({ database, clock, log }))

  let isAccepting = false
  const management = await openManagementListener({
    database,
    changeLog,
    keyUse,
    secretBox,
    counters,
    ledger,
    flush: () => plane.flush(),
    dispatcher,
    sendTestEvent: (webhook) => sendTestEvent(webhook, { postbox, secretBox, clock }),
    operatorKey,
    reservedHostnames: config.reservedHostnames ?? [],
    clock,
    log,
    metrics,
    metricsText: async () =>
      metricsText([await metrics.registry.getMetricsAsJSON(), ...((await pool?.metrics()) ?? [])]),
    ready: () => isAccepting,
    databaseReachable: () => follower?.isCurrent ?? true,
    takesEvents: () => plane.takesEvents(),
  })
  const managementMs = Math.min(config.shutdownTimeoutMs, managementMsMax)
  started.defer(() => closeManagementListener(management, { clock, timeoutMs: managementMs }))

  const inference = await plane.listen(config.inferenceListen)
  started.defer(() => plane.drain())
  const managementUrl = await listen(management.server, {
    ...config.managementListen,
    variable: 'TOLLGATE_MANAGEMENT_LISTEN',
  })
  isAccepting = true
  started.defer(async () => {
    isAccepting = false
    if (config.shutdownDelayMs > 0) await sleep(clock, config.shutdownDelayMs)
  })

  const parts = started.move()
  return {
    inference,
    management: managementUrl,
    generatedBootstrapKey: generatedKey,
    dataDir: config.dataDir,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}
