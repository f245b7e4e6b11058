import { KeyUse } from '../access/key-use.ts'
import { inTime, keepAlive, systemClock } from '../clock.ts'
import { type InferencePlane, openInferencePlane } from '../inference-plane.ts'
import { openLedgerWriter } from '../ledger/ledger-writer.ts'
import { openLog } from '../log.ts'
import { openMetrics } from '../metrics.ts'
import { inferenceConnectionsMax, openDatabase } from '../storage/open-database.ts'
import { SecretBox } from '../storage/secret-box.ts'
import type { WorkerCalls, WorkerStart } from './calls.ts'
import { Channel } from './channel.ts'
import { type MainChannel, sharedCounters } from './shared-counters.ts'

/**
 * One inference process of several. It has a directory, a journal and connections of its own; the counters it
 * shares, and the main process sees to management and delivery. It ends with the main process, whatever ends that.
 */
const metrics = openMetrics()
const parts = new AsyncDisposableStack()
const opening = Promise.withResolvers<InferencePlane>()
/** Once it is under way: what it opens is disposed of when it has ended. */
let start: Promise<InferencePlane> | null = null

const main: MainChannel = new Channel(process, {
  open: async (options) => {
    start = open(options)
    opening.resolve(await start)
  },
  listen: async (address) => (await opening.promise).listen(address),
  invalidate: async (change) => (await opening.promise).invalidate(change),
  flush: async () => (await opening.promise).flush(),
  takesEvents: async () => (await opening.promise).takesEvents(),
  ping: async () => {},
  metrics: () => metrics.registry.getMetricsAsJSON(),
  drain: async () => (await opening.promise).drain(),
  stop: async () => {
    try {
      await parts.disposeAsync()
    } finally {
      // The answer leaves first; with the channel gone nothing keeps the process.
      setImmediate(() => process.disconnect?.())
    }
  },
} satisfies WorkerCalls)

process.once('disconnect', () => void endAlone())
// The signal goes to the whole process group; the main process decides when a worker stops.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => {})

/** How long requests may go on once the main process has gone, and how long it may take all in all to end. */
const lastRequestsMs = 2_000
const endMsMax = 15_000

/**
 * The main process stops a worker before it lets go of it, so that nothing is left to do here; or it has died. The next
 * one waits for the journal, and without counters nobody can be admitted.
 */
async function endAlone(): Promise<void> {
  using _alive = keepAlive()
  const late = () => new Error('The worker has not ended in time.')
  const end = async () => {
    const plane = await start?.catch(() => null)
    await plane?.drain({ withinMs: lastRequestsMs })
    await parts.disposeAsync()
  }
  try {
    await inTime(systemClock, end(), { withinMs: endMsMax, late })
  } catch {
    process.kill(process.pid, 'SIGKILL')
  }
}

async function open({ config, masterKey, journalPath, leaseMs }: WorkerStart): Promise<InferencePlane> {
  const clock = systemClock
  const log = openLog({ level: config.logLevel })
  const database = parts.use(await openDatabase(config, { connectionsMax: inferenceConnectionsMax }))
  const keyUse = parts.use(new KeyUse({ database, clock, log }))
  const ledgerWriter = parts.use(openLedgerWriter(database, config))
  const plane = parts.use(
    await openInferencePlane({
      config,
      database,
      ledgerWriter,
      journalPath,
      secretBox: new SecretBox(Buffer.from(masterKey)),
      counters: sharedCounters(main, { leaseMs }),
      keyUse,
      clock,
      log,
      metrics,
      sharesAddress: true,
    }),
  )
  plane.onShipped((workspaceIds) => void main.call('shipped', workspaceIds).catch(() => undefined))
  return plane
}
