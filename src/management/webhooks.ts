import { z } from 'zod'
import { mintSigningSecret, signingSecretPurpose } from '../access/signing-secret.ts'
import type { Clock } from '../clock.ts'
import { newId } from '../id.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import type { WebhookRow } from '../storage/tables.ts'
import { refuseBeyond } from './at-most.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { findWebhook } from './webhook-row.ts'
import { WebhookUrl } from './webhook-url.ts'

/** Each of them is sent every event. */
const webhooksMax = 100

/** How long the secret before a rotation goes on signing. */
const rotationMs = 24 * 3_600_000

const retry_window_seconds = z
  .int()
  .min(15)
  .max(604_800)
  .describe('How long a delivery is retried after its first attempt. Beyond 15, gaps go on doubling up to an hour.')

const CreateWebhookRequest = z
  .strictObject({ url: WebhookUrl, retry_window_seconds: retry_window_seconds.default(15) })
  .meta({ id: 'CreateWebhookRequestV1' })
type CreateWebhookRequest = z.output<typeof CreateWebhookRequest>

const UpdateWebhookRequest = z
  .strictObject({ url: WebhookUrl.exactOptional(), retry_window_seconds: retry_window_seconds.exactOptional() })
  .refine((changes) => Object.keys(changes).length > 0, { error: 'Give url, retry_window_seconds or both.' })
  .meta({ id: 'UpdateWebhookRequestV1' })
type UpdateWebhookRequest = z.output<typeof UpdateWebhookRequest>

const Webhook = z
  .object({
    id: z.string(),
    url: z.string(),
    retry_window_seconds,
    previous_secret_until: Timestamp.nullable().describe('Until when the secret before the last rotation signs too.'),
    created_at: Timestamp,
    updated_at: Timestamp,
  })
  .meta({ id: 'WebhookV1' })
type Webhook = z.output<typeof Webhook>

const WebhookWithSecret = Webhook.extend({
  signing_secret: z.string().describe('Keys the signatures; shown this once.'),
}).meta({ id: 'WebhookWithSecretV1' })
type WebhookWithSecret = z.output<typeof WebhookWithSecret>

const Webhooks = z.object({ items: z.array(Webhook), pagination: Pagination }).meta({ id: 'WebhooksResponseV1' })
type Webhooks = z.output<typeof Webhooks>

const WebhookTombstone = z
  .object({ id: z.string(), url: z.string(), deleted_at: Timestamp })
  .meta({ id: 'WebhookTombstoneV1' })
type WebhookTombstone = z.output<typeof WebhookTombstone>

export interface WebhookParts {
  /** Resolves once the ledger has every event that was committed before the call. */
  flush: () => Promise<void>
  secretBox: SecretBox
  clock: Clock
  dispatcher: {
    /** Sends what is due to this webhook. */
    webhookChanged(webhookId: string): void
  }
}

/** Where billing events are sent (contract §14). A webhook has one signing secret, which goes by the webhook's id. */
export function webhookRoutes(parts: WebhookParts): Route[] {
  const tag = 'Billing'
  const path = '/v1/gateway/webhooks'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'webhooks:manage',
      summary: 'Create a webhook, for the events from now on',
      tag,
      body: CreateWebhookRequest,
      response: WebhookWithSecret,
      // It begins where the record ends, and what is on its way there is older than it.
      before: parts.flush,
      handler: ({ workspace, body, transaction }) => createWebhook(workspace.id, body, { ...parts, transaction }),
      audit: ({ id }) => [
        { event_type: 'WEBHOOK_CREATED', webhook_id: id },
        { event_type: 'WEBHOOK_SIGNING_SECRET_CREATED', webhook_signing_secret_id: id },
      ],
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'webhooks:view',
      summary: 'List webhooks',
      tag,
      query: pageQuery,
      response: Webhooks,
      handler: ({ workspace, query, queries }) => listWebhooks(workspace.id, query, { ...parts, queries }),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{webhook_id}`,
      permission: 'webhooks:view',
      summary: 'Get a webhook',
      tag,
      response: Webhook,
      handler: async ({ workspace, params, queries }) =>
        toWebhook(await findWebhook(workspace.id, params.webhook_id, queries), parts),
    }),
    defineRoute({
      method: 'PATCH',
      path: `${path}/{webhook_id}`,
      permission: 'webhooks:manage',
      summary: "Change a webhook's URL, retry window or both",
      tag,
      body: UpdateWebhookRequest,
      response: Webhook,
      handler: ({ workspace, params, body, transaction }) =>
        updateWebhook(workspace.id, { id: params.webhook_id, ...body }, { ...parts, transaction }),
      audit: ({ id }) => ({ event_type: 'WEBHOOK_UPDATED', webhook_id: id }),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{webhook_id}`,
      permission: 'webhooks:manage',
      summary: 'Delete a webhook and its deliveries',
      tag,
      response: WebhookTombstone,
      handler: ({ workspace, params, transaction }) =>
        deleteWebhook(workspace.id, params.webhook_id, { ...parts, transaction }),
      audit: ({ id }) => [
        { event_type: 'WEBHOOK_DELETED', webhook_id: id },
        { event_type: 'WEBHOOK_SIGNING_SECRET_DELETED', webhook_signing_secret_id: id },
      ],
    }),
    defineRoute({
      method: 'POST',
      path: `${path}/{webhook_id}/rotate_secret`,
      permission: 'webhooks:manage',
      summary: 'Make a new signing secret; the one before it goes on signing for 24 hours',
      tag,
      response: WebhookWithSecret,
      handler: ({ workspace, params, transaction }) =>
        rotateSecret(workspace.id, params.webhook_id, { ...parts, transaction }),
      audit: ({ id }) => ({ event_type: 'WEBHOOK_SIGNING_SECRET_ROTATED', webhook_signing_secret_id: id }),
    }),
  ]
}

interface WriteParts extends WebhookParts {
  transaction: Transaction
}

async function createWebhook(
  workspaceId: string,
  request: CreateWebhookRequest,
  { transaction, secretBox, clock, dispatcher }: WriteParts,
): Promise<WebhookWithSecret> {
  const { queries } = transaction
  const webhooks = queries
    .selectFrom('webhooks')
    .where('workspace_id', '=', workspaceId)
    .where('deleted_at', 'is', null)
  await refuseBeyond(webhooksMax, 'webhooks', webhooks)
  const head = await queries
    .selectFrom('ledger_heads')
    .select('position')
    .where('workspace_id', '=', workspaceId)
    .executeTakeFirst()
  const nowMs = clock.now()
  const id = newId(nowMs)
  const signing_secret = mintSigningSecret()
  const row: WebhookRow = {
    id,
    workspace_id: workspaceId,
    ...request,
    sealed_secret: secretBox.seal(signing_secret, signingSecretPurpose(id)),
    sealed_previous_secret: null,
    previous_secret_until: null,
    position: head?.position ?? 0,
    sequence: null,
    created_at: nowMs,
    updated_at: nowMs,
    deleted_at: null,
  }
  await queries.insertInto('webhooks').values(row).execute()
  transaction.onCommit(() => dispatcher.webhookChanged(id))
  return { ...toWebhook(row, { clock }), signing_secret }
}

async function listWebhooks(
  workspaceId: string,
  request: PageRequest,
  { queries, clock }: { queries: Queries; clock: Clock },
): Promise<Webhooks> {
  const rows = await queries
    .selectFrom('webhooks')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('deleted_at', 'is', null)
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, (row) => toWebhook(row, { clock }))
}

async function updateWebhook(
  workspaceId: string,
  { id, ...changes }: UpdateWebhookRequest & { id: string },
  { transaction, clock, dispatcher }: WriteParts,
): Promise<Webhook> {
  const row = await findWebhook(workspaceId, id, transaction.queries)
  const changed = { ...changes, updated_at: clock.now() }
  await transaction.queries.updateTable('webhooks').set(changed).where('id', '=', id).execute()
  transaction.onCommit(() => dispatcher.webhookChanged(id))
  return toWebhook({ ...row, ...changed }, { clock })
}

/** What is under way is answered still; nothing more is sent. The deliveries are removed in the background. */
async function deleteWebhook(
  workspaceId: string,
  id: string,
  { transaction, clock, dispatcher }: WriteParts,
): Promise<WebhookTombstone> {
  const { url } = await findWebhook(workspaceId, id, transaction.queries)
  const deletedAt = clock.now()
  await transaction.queries.updateTable('webhooks').set({ deleted_at: deletedAt }).where('id', '=', id).execute()
  transaction.onCommit(() => dispatcher.webhookChanged(id))
  return { id, url, deleted_at: timestamp(deletedAt) }
}

/** A second rotation within 24 hours ends the oldest secret at once: so one that has leaked can be ended. */
async function rotateSecret(
  workspaceId: string,
  id: string,
  { transaction, secretBox, clock }: WriteParts,
): Promise<WebhookWithSecret> {
  const row = await findWebhook(workspaceId, id, transaction.queries)
  const signing_secret = mintSigningSecret()
  const rotated = {
    sealed_secret: secretBox.seal(signing_secret, signingSecretPurpose(id)),
    sealed_previous_secret: row.sealed_secret,
    previous_secret_until: clock.now() + rotationMs,
    updated_at: clock.now(),
  }
  await transaction.queries.updateTable('webhooks').set(rotated).where('id', '=', id).execute()
  return { ...toWebhook({ ...row, ...rotated }, { clock }), signing_secret }
}

function toWebhook(row: WebhookRow, { clock }: { clock: Clock }): Webhook {
  const { id, url, retry_window_seconds, previous_secret_until: until, created_at, updated_at } = row
  return {
    id,
    url,
    retry_window_seconds,
    previous_secret_until: until === null || until <= clock.now() ? null : timestamp(until),
    created_at: timestamp(created_at),
    updated_at: timestamp(updated_at),
  }
}
