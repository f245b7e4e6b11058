import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { mintSigningSecret, signingSecretPurpose } from '../src/access/signing-secret.ts'
import { systemClock } from '../src/clock.ts'
import { pendingEvents } from '../src/delivery/backlog.ts'
import { startDispatcher } from '../src/delivery/dispatcher.ts'
import { newId } from '../src/id.ts'
import type { BillingEvent } from '../src/ledger/billing-event.ts'
import { type Journal, openJournal } from '../src/ledger/journal.ts'
import { openLedgerThread } from '../src/ledger/ledger-thread.ts'
import { startShipper } from '../src/ledger/shipper.ts'
import { openLog } from '../src/log.ts'
import { createBootstrapWorkspace } from '../src/management/workspaces.ts'
import { openMetrics } from '../src/metrics.ts'
import { openPostbox } from '../src/outbound.ts'
import { type Database, openEmbeddedDatabase } from '../src/storage/database.ts'
import { SecretBox } from '../src/storage/secret-box.ts'
import type { Measured, Rig } from './measure.ts'
import { sampleEvent } from './sample-event.ts'

const eventsMade = 50_000
const log = openLog({ level: 'silent' })

/**
 * The way of an event without the requests, on the real parts in this process: how many a second, and at what CPU time
 * each, the journal takes, the shipper moves to the ledger, and the dispatcher delivers to the mock upstream.
 */
export async function recordRates(rig: Rig): Promise<Measured[]> {
  const measured: Measured[] = []
  // The first round compiles the code; it does not count.
  for (let round = 0; round <= rig.pace.rounds; round++) {
    rig.say(`round ${round}: journal, ledger and webhook`)
    const figures = await recordOnce(join(rig.folder, `record-${round}`), rig)
    if (round > 0) measured.push(...figures)
  }
  return measured
}

async function recordOnce(path: string, { upstreamPort }: Rig): Promise<Measured[]> {
  const metrics = openMetrics()
  await using database = await openEmbeddedDatabase(`${path}.db`)
  await createBootstrapWorkspace(database, { key: null, clock: systemClock })
  const { id: workspaceId } = await database.queries.selectFrom('workspaces').select('id').executeTakeFirstOrThrow()
  const countedGroups = ['leaf', 'middle', 'root'].map((level) => `01k0000000000000000${level.padEnd(7, '0')}`)
  const sample = { workspaceId, node: '', externalEntityId: 'customer-3', countedGroups }
  const events = Array.from({ length: eventsMade }, () => sampleEvent(sample))
  await using journal = openJournal({ path: `${path}-journal.db`, sync: 'normal', log, metrics })

  const appending = await timed('journal', () => appendAll(journal, events))
  const shipping = await timed('ledger', async () => {
    await using ledger = openLedgerThread({ path: `${path}.db` })
    await using shipper = startShipper({ journal, ledger, clock: systemClock, log, metrics })
    await shipper.flush()
  })
  const delivering = await timed('webhook', () =>
    deliverAll(database, { workspaceId, url: `http://127.0.0.1:${upstreamPort}/json` }),
  )
  return [...appending, ...shipping, ...delivering]
}

/** As 64 requests at a time do it: each appends when its last event is on disk. */
async function appendAll(journal: Journal, events: readonly BillingEvent[]): Promise<void> {
  const left = events.values()
  const request = async () => {
    for (const event of left) await journal.append(event)
  }
  await Promise.all(Array.from({ length: 64 }, request))
}

async function deliverAll(
  database: Database,
  { workspaceId, url }: { workspaceId: string; url: string },
): Promise<void> {
  const secretBox = new SecretBox(randomBytes(32))
  await addWebhook(database, { workspaceId, url, secretBox })
  await using postbox = openPostbox({ clock: systemClock })
  await using _dispatcher = await startDispatcher({
    database,
    postbox,
    secretBox,
    clock: systemClock,
    log,
    metrics: openMetrics(),
  })
  while ((await pendingEvents(database.queries)) > 0) await pause(20)
}

async function timed(of: 'journal' | 'ledger' | 'webhook', work: () => Promise<void>): Promise<Measured[]> {
  const startMs = systemClock.monotonic()
  const cpuBefore = process.cpuUsage()
  await work()
  const seconds = (systemClock.monotonic() - startMs) / 1_000
  const cpu = process.cpuUsage(cpuBefore)
  return [
    { what: 'eventsPerSecond', of, who: 'tollgate', value: eventsMade / seconds },
    { what: 'eventCpuUs', of, who: 'tollgate', value: (cpu.user + cpu.system) / eventsMade },
  ]
}

interface NewWebhook {
  workspaceId: string
  url: string
  secretBox: SecretBox
}

async function addWebhook({ queries }: Database, { workspaceId, url, secretBox }: NewWebhook): Promise<void> {
  const id = newId(systemClock.now())
  await queries
    .insertInto('webhooks')
    .values({
      id,
      workspace_id: workspaceId,
      url,
      retry_window_seconds: 3_600,
      sealed_secret: secretBox.seal(mintSigningSecret(), signingSecretPurpose(id)),
      sealed_previous_secret: null,
      previous_secret_until: null,
      position: 0,
      sequence: 0,
      created_at: 0,
      updated_at: 0,
      deleted_at: null,
    })
    .execute()
}
