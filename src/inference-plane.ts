import type { KeyUse } from './access/key-use.ts'
import { type Clock, inTime } from './clock.ts'
import type { Config, ListenAddress } from './config.ts'
import { Directory } from './directory/directory.ts'
import { promptSource } from './directory/prompt-source.ts'
import { storedDirectory } from './directory/stored-directory.ts'
import { tuneGarbageCollection } from './garbage-collection.ts'
import { connectionBound, openFilesMax } from './inbound/connection-bound.ts'
import { createInferenceListener } from './inference/listener.ts'
import { openJournal } from './ledger/journal.ts'
import type { LedgerWriter } from './ledger/ledger-writer.ts'
import { type ShippedListener, startShipper } from './ledger/shipper.ts'
import type { CounterStore } from './limits/counter-store.ts'
import { openLimiter } from './limits/limiter.ts'
import { ServingTime } from './listen.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { openOutbound } from './outbound.ts'
import type { Change } from './storage/change-log.ts'
import type { Database } from './storage/database.ts'
import { openReader } from './storage/open-database.ts'
import type { SecretBox } from './storage/secret-box.ts'

/** All that serves inference, in this process or in others. Disposing of it drains it, and ships its journal. */
export interface InferencePlane extends AsyncDisposable {
  /** Resolves with the base URL once the address accepts connections. */
  listen(address: ListenAddress): Promise<string>
  /** Resolves once what `change` made stale is served no more. */
  invalidate(change: Change): Promise<void>
  /** Resolves once the ledger has every event that was committed before the call. */
  flush(): Promise<void>
  /** Whether events can be written, as far as is known: where not, requests are refused. */
  takesEvents(): Promise<boolean>
  /**
   * Stops accepting and resolves once the requests in flight have ended, or had to be cut, and are recorded. They may
   * take `withinMs`, and no longer than the settings say.
   */
  drain(limit?: { withinMs: number }): Promise<void>
  /** Calls `listener`, after each batch, with the ids of the workspaces whose record has grown. */
  onShipped(listener: ShippedListener): void
}

export interface InferencePlaneParts {
  config: Config
  database: Database
  ledgerWriter: LedgerWriter
  /** The journal's file: one for each process. */
  journalPath: string
  secretBox: SecretBox
  counters: CounterStore
  keyUse: KeyUse
  clock: Clock
  log: Log
  metrics: Metrics
  /** Whether other processes listen on the same address. */
  sharesAddress?: boolean
}

/** How long the draining waits, once no connection is left, for the record of what they were served. */
export const recordingMsMax = 5_000

/**
 * The plane in this process. Opening it ships what an earlier process has left in the journal, so that the
 * record is whole before the day's counters are read from it and the first request comes.
 */
export async function openInferencePlane({
  config,
  database,
  ledgerWriter,
  journalPath,
  secretBox,
  counters,
  keyUse,
  clock,
  log,
  metrics,
  sharesAddress = false,
}: InferencePlaneParts): Promise<InferencePlane> {
  tuneGarbageCollection()
  await using opened = new AsyncDisposableStack()
  const journal = opened.use(openJournal({ path: journalPath, sync: config.journalSync, clock, log, metrics }))
  const shipper = opened.use(startShipper({ journal, ledger: ledgerWriter, clock, log, metrics }))
  await shipper.flush()

  // Management may take seconds to change a large tree: who calls meanwhile does not wait for that transaction.
  const reader = opened.use(openReader(config)) ?? database
  const directory = new Directory(promptSource(storedDirectory(reader.queries, secretBox), { clock }))
  const limiter = opened.use(openLimiter({ counters, clock, metrics }))
  const outbound = opened.use(openOutbound({ ...config, clock }))
  const { server, idle } = createInferenceListener(
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
    { requestTimeoutMs: config.requestBodyTimeoutMs, connectionsMax: connectionsMax({ config, log }) },
  )
  const serving = new ServingTime(server)
  const drain = async ({ withinMs } = { withinMs: config.shutdownTimeoutMs }) => {
    await serving.drain({ clock, timeoutMs: Math.min(withinMs, config.shutdownTimeoutMs) })
    const late = () => new Error('Requests were still under way.')
    // The journal closes after this: what was produced for clients that are gone is to be recorded first.
    await inTime(clock, idle(), { withinMs: recordingMsMax, late }).catch((cause) =>
      log.error({ err: cause }, cause.message),
    )
  }
  opened.defer(() => drain())

  const parts = opened.move()
  return {
    listen: (address) => serving.listen({ ...address, variable: 'TOLLGATE_INFERENCE_LISTEN', isShared: sharesAddress }),
    invalidate: async (change) => directory.invalidate(change),
    flush: () => shipper.flush(),
    takesEvents: async () => journal.takesEvents(),
    drain,
    onShipped: (listener) => shipper.onShipped(listener),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function connectionsMax({ config, log }: Pick<InferencePlaneParts, 'config' | 'log'>): number {
  const bound = { allowed: config.connectionsMax, openFilesMax: openFilesMax() }
  const connections = connectionBound(bound)
  if (connections < bound.allowed) {
    log.warn(
      { connections, ...bound },
      'fewer connections are served than the settings allow: raise the limit of open files',
    )
  }
  return connections
}
