import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { KeyUse } from './access/key-use.ts'
import { type Clock, sleep, systemClock, utcDay } from './clock.ts'
import type { Config, ListenAddress } from './config.ts'
import { startDispatcher } from './delivery/dispatcher.ts'
import { sendTestEvent } from './delivery/test-event.ts'
import { Directory } from './directory/directory.ts'
import { storedDirectory } from './directory/stored-directory.ts'
import { StartError } from './errors.ts'
import { keptMasterKey, keptOperatorKey, openDataDir } from './generated-secrets.ts'
import { createInferenceListener } from './inference/listener.ts'
import { openJournal } from './ledger/journal.ts'
import { openLedger } from './ledger/ledger.ts'
import { openLedgerThread } from './ledger/ledger-thread.ts'
import { startShipper } from './ledger/shipper.ts'
import { openLimiter } from './limits/limiter.ts'
import { openMemoryCounters } from './limits/memory-counters.ts'
import { openLog } from './log.ts'
import { openManagementListener } from './management/listener.ts'
import { createBootstrapWorkspace } from './management/workspaces.ts'
import { openMetrics } from './metrics.ts'
import { openOutbound, openPostbox } from './outbound.ts'
import { ChangeLog } from './storage/change-log.ts'
import { openEmbeddedDatabase } from './storage/database.ts'
import { SecretBox } from './storage/secret-box.ts'

export interface RunningServer extends AsyncDisposable {
  /** Base URLs, without a slash at their end. */
  inference: string
  management: string
  /** The full-access key of the first workspace, if this start generated it: the only time it is known. */
  generatedBootstrapKey: string | null
  /** Where the operator key comes from, for the banner. */
  dataDir: string
}

/**
 * Builds the parts, starts them in the order in which they need one another, and resolves once both listeners
 * accept connections. Disposing of it stops accepting, lets requests in flight finish, ships what the journal
 * holds and closes everything, in that order (contract §2).
 */
export async function serve(config: Config, { clock = systemClock }: { clock?: Clock } = {}): Promise<RunningServer> {
  await using started = new AsyncDisposableStack()
  const log = openLog({ level: config.logLevel })
  const metrics = openMetrics()

  openDataDir(config.dataDir)
  const secretBox = new SecretBox(config.masterKey ?? keptMasterKey(config.dataDir))
  const operatorKey = config.operatorKey ?? keptOperatorKey(config.dataDir)

  const databasePath = join(config.dataDir, 'tollgate.db')
  const database = started.use(await openEmbeddedDatabase(databasePath))
  const { generatedKey } = await createBootstrapWorkspace(database, { key: config.bootstrapKey, clock })
  const keyUse = started.use(new KeyUse({ database, clock, log }))

  const ledger = openLedger({ database })
  const ledgerThread = started.use(openLedgerThread({ path: databasePath }))
  const journal = started.use(
    openJournal({ path: join(config.dataDir, 'journal.db'), sync: config.journalSync, log, metrics }),
  )
  const shipper = started.use(startShipper({ journal, ledger: ledgerThread, clock, log, metrics }))
  await shipper.flush()

  const counters = openMemoryCounters({ clock })
  const today = utcDay(clock.now())
  for await (const sums of ledger.usageOfDay(today)) await counters.seedDay(today, sums)
  const limiter = started.use(openLimiter({ counters, clock }))

  const changeLog = new ChangeLog()
  const directory = new Directory(storedDirectory(database.queries, secretBox))
  changeLog.subscribe((change) => directory.invalidate(change))

  const outbound = started.use(openOutbound(config))
  const inferenceServer = createInferenceListener(
    {
      directory,
      keyUse,
      limiter,
      journal,
      outbound,
      clock,
      log,
      metrics,
      bodyBytesMax: config.requestBodyBytesMax,
      stallTimeoutMs: config.idleTimeoutMs,
    },
    { requestTimeoutMs: config.requestBodyTimeoutMs },
  )

  const postbox = started.use(openPostbox({ clock }))
  const dispatcher = started.use(await startDispatcher({ database, postbox, secretBox, clock, log, metrics }))
  shipper.onShipped((workspaceIds) => dispatcher.recordGrew(workspaceIds))

  let isAccepting = false
  const management = await openManagementListener({
    database,
    changeLog,
    keyUse,
    secretBox,
    counters,
    ledger,
    flush: () => shipper.flush(),
    dispatcher,
    sendTestEvent: (webhook) => sendTestEvent(webhook, { postbox, secretBox, clock }),
    operatorKey,
    clock,
    log,
    metrics,
    ready: () => isAccepting,
  })
  started.defer(() => management.close())

  const inference = await listen(inferenceServer, config.inferenceListen, 'TOLLGATE_INFERENCE_LISTEN')
  started.defer(() => drain(inferenceServer, { clock, timeoutMs: config.shutdownTimeoutMs }))
  const managementUrl = await listen(management.server, config.managementListen, 'TOLLGATE_MANAGEMENT_LISTEN')
  isAccepting = true
  started.defer(() => {
    isAccepting = false
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

/** Resolves with the base URL once `server` accepts connections. */
function listen(server: Server, { host, port }: ListenAddress, variable: string): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new StartError(`${variable}: cannot listen on ${host}:${port}: ${cause.message}.`, { cause }))
    })
    server.listen({ host, port, backlog: 2048 }, () => {
      const { address, family, port: taken } = server.address() as AddressInfo
      resolve(`http://${family === 'IPv6' ? `[${address}]` : address}:${taken}`)
    })
  })
}

/** Stops accepting and waits for the requests in flight; what is left after `timeoutMs` is cut. */
async function drain(
  server: ReturnType<typeof createInferenceListener>,
  { clock, timeoutMs }: { clock: Clock; timeoutMs: number },
): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const deadline = new AbortController()
  await Promise.race([closed, sleep(clock, timeoutMs, deadline.signal)])
  deadline.abort()
  server.closeAllConnections()
  await closed
}
