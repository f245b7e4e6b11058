import { mintSigningSecret, signingSecretPurpose } from '../../src/access/signing-secret.ts'
import type { Clock } from '../../src/clock.ts'
import { startDispatcher } from '../../src/delivery/dispatcher.ts'
import { newId } from '../../src/id.ts'
import type { BillingEvent } from '../../src/ledger/billing-event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { openLog } from '../../src/log.ts'
import { openMetrics } from '../../src/metrics.ts'
import { openPostbox, type PostboxOptions } from '../../src/outbound.ts'
import { SecretBox } from '../../src/storage/secret-box.ts'
import type { WebhookDeliveryRow, WebhookRow } from '../../src/storage/tables.ts'
import { openTestDatabase } from '../support/database-backends.ts'

/** What delivers webhooks, over a database in `folder`, without the rest of the gateway. */
export type Installation = Awaited<ReturnType<typeof openInstallation>>

export interface InstallationOptions extends PostboxOptions {
  folder: string
  clock: Clock
  attemptsMax?: number
  workspaceAttemptsMax?: number
  /** Whether no other installation delivers from the folder's database. */
  isAlone?: boolean
}

export async function openInstallation({
  folder,
  clock,
  attemptsMax = 256,
  workspaceAttemptsMax = Math.ceil(attemptsMax / 4),
  isAlone = true,
  ...postboxOptions
}: InstallationOptions) {
  await using opened = new AsyncDisposableStack()
  const database = opened.use(await openTestDatabase(folder))
  const secretBox = new SecretBox(Buffer.alloc(32, 7))
  const ledger = openLedger({ database })
  const metrics = openMetrics()
  const postbox = opened.use(openPostbox({ clock, ...postboxOptions }))
  const dispatcher = opened.use(
    await startDispatcher({
      database,
      postbox,
      secretBox,
      clock,
      log: openLog({ level: 'silent' }),
      metrics,
      attemptsMax,
      workspaceAttemptsMax,
      isAlone,
      closeMs: 100,
    }),
  )
  const parts = opened.move()

  return {
    database,
    dispatcher,
    metrics,
    /** Records `events`, as the shipper does. */
    async record(events: readonly BillingEvent[]): Promise<void> {
      dispatcher.recordGrew(await ledger.write(events))
    },
    /** A new webhook of `workspaceId` and its signing secret, as the management API makes it. */
    async addWebhook({ workspaceId = 'workspace-a', ...fields }: Partial<WebhookRow> & { workspaceId?: string } = {}) {
      const id = newId(clock.now())
      const secret = mintSigningSecret()
      const { queries } = database
      await queries
        .insertInto('workspaces')
        .values({
          id: workspaceId,
          name: workspaceId,
          onboarded: 1,
          org_prefixes: '[]',
          key_prefix: 'tk_',
          register_public_key: null,
          created_at: 0,
        })
        .onConflict((conflict) => conflict.doNothing())
        .execute()
      const row: WebhookRow = {
        id,
        workspace_id: workspaceId,
        url: 'http://127.0.0.1:1/',
        retry_window_seconds: 15,
        sealed_secret: secretBox.seal(secret, signingSecretPurpose(id)),
        sealed_previous_secret: null,
        previous_secret_until: null,
        position: 0,
        sequence: null,
        created_at: 0,
        updated_at: 0,
        deleted_at: null,
        ...fields,
      }
      await queries.insertInto('webhooks').values(row).execute()
      dispatcher.webhookChanged(id)
      return { ...row, secret }
    },
    /** A webhook's deliveries, oldest first. */
    deliveries(webhookId: string): Promise<WebhookDeliveryRow[]> {
      return database.queries
        .selectFrom('webhook_deliveries')
        .selectAll()
        .where('webhook_id', '=', webhookId)
        .orderBy('id')
        .execute()
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}
