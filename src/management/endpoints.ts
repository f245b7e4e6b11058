import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { invalid } from '../errors.ts'
import { newId } from '../id.ts'
import type { EndpointTarget } from '../providers.ts'
import { slugLengthMax } from '../slug.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { takeLock } from '../storage/locks.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { EndpointRow, WorkspaceRow } from '../storage/tables.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { EndpointTargetAnswer, EndpointTargetRequest } from './endpoint-target.ts'
import { anyPrefix, orgPrefixes, othersPrefixes } from './org-prefixes.ts'
import { owned } from './owned.ts'
import { defineRoute, type Route } from './route.ts'
import { refuseUnknownSecrets } from './secret-references.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { urlSegment } from './url-segment.ts'

const Region = z.enum(['UNRESTRICTED', 'EU']).meta({ id: 'SharedEndpointRegionV1' })

const slug = z
  .string()
  .max(slugLengthMax)
  .regex(new RegExp(`^${urlSegment}/${urlSegment}$`), 'Must be two URL-safe segments, like your-org/your-model.')
  .describe('What customers call it: a prefix of the workspace, and a name.')
const targets = z.array(EndpointTargetRequest).min(1).max(5).describe('In order of priority.')

const CreateEndpointRequest = z
  .strictObject({ slug, region: Region.default('UNRESTRICTED'), targets })
  .meta({ id: 'CreateEndpointRequestV1' })
type CreateEndpointRequest = z.output<typeof CreateEndpointRequest>

const UpdateEndpointRequest = z
  .strictObject({
    slug: slug.nullish(),
    targets: targets.nullish().describe('All of them: they replace the present ones.'),
  })
  .meta({ id: 'UpdateEndpointRequestV1' })
type UpdateEndpointRequest = z.output<typeof UpdateEndpointRequest>

const Endpoint = z
  .object({
    id: z.string(),
    slug: z.string(),
    region: Region,
    targets: z.array(EndpointTargetAnswer),
    created_at: Timestamp,
    updated_at: Timestamp,
  })
  .meta({ id: 'EndpointV1' })
type Endpoint = z.output<typeof Endpoint>

const Endpoints = z.object({ items: z.array(Endpoint), pagination: Pagination }).meta({ id: 'EndpointsResponseV1' })
type Endpoints = z.output<typeof Endpoints>

const EndpointTombstone = z.object({ id: z.string(), slug: z.string() }).meta({ id: 'EndpointTombstoneV1' })
type EndpointTombstone = z.output<typeof EndpointTombstone>

export interface EndpointParts {
  changeLog: ChangeLog
  clock: Clock
}

/** Where slugs lead (contract §6). */
export function endpointRoutes(parts: EndpointParts): Route[] {
  const tag = 'Endpoints'
  const path = '/v1/gateway/endpoints'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'endpoints:manage',
      summary: 'Create an endpoint',
      tag,
      body: CreateEndpointRequest,
      response: Endpoint,
      handler: ({ workspace, actor, body, transaction }) =>
        createEndpoint({ workspace, actor }, body, { ...parts, transaction }),
      audit: (endpoint) => ({ event_type: 'GATEWAY_ENDPOINT_CREATED', ...audited(endpoint) }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'endpoints:view',
      summary: 'List endpoints',
      tag,
      query: pageQuery,
      response: Endpoints,
      handler: ({ workspace, query, queries }) => listEndpoints(workspace.id, query, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{endpoint_id}`,
      permission: 'endpoints:view',
      summary: 'Get an endpoint',
      tag,
      response: Endpoint,
      handler: async ({ workspace, params, queries }) =>
        toEndpoint(await findEndpoint(workspace.id, params.endpoint_id, queries)),
    }),
    defineRoute({
      method: 'PATCH',
      path: `${path}/{endpoint_id}`,
      permission: 'endpoints:manage',
      summary: "Change an endpoint's slug, targets or both",
      tag,
      body: UpdateEndpointRequest,
      response: Endpoint,
      handler: ({ workspace, actor, params, body, transaction }) =>
        updateEndpoint({ workspace, actor }, { id: params.endpoint_id, ...body }, { ...parts, transaction }),
      audit: (endpoint) => ({
        event_type: 'GATEWAY_ENDPOINT_UPDATED',
        ...audited(endpoint),
        previous_slug: endpoint.previous_slug,
      }),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{endpoint_id}`,
      permission: 'endpoints:manage',
      summary: 'Delete an endpoint; its slug is free again',
      tag,
      response: EndpointTombstone,
      handler: ({ workspace, params, transaction }) =>
        deleteEndpoint(workspace.id, params.endpoint_id, { ...parts, transaction }),
      audit: (endpoint) => ({ event_type: 'GATEWAY_ENDPOINT_DELETED', ...audited(endpoint) }),
    }),
  ]
}

interface WriteParts extends EndpointParts {
  transaction: Transaction
}

async function createEndpoint(
  caller: WorkspaceCaller,
  { slug, region, targets }: CreateEndpointRequest,
  { transaction, changeLog, clock }: WriteParts,
): Promise<Endpoint> {
  const { workspace } = caller
  const { queries } = transaction
  await refuseForeignPrefix(workspace, slug, transaction)
  await refuseUnknownTargets(caller, targets, queries)
  const nowMs = clock.now()
  const row: EndpointRow = {
    id: newId(nowMs),
    workspace_id: workspace.id,
    slug,
    region,
    targets: storedTargets(targets),
    created_at: nowMs,
    updated_at: nowMs,
  }
  await refuseDuplicate(queries.insertInto('endpoints').values(row).execute(), () => slugTaken(slug))
  changeLog.record(transaction, { kind: 'routing', workspaceId: workspace.id })
  return toEndpoint(row)
}

async function listEndpoints(workspaceId: string, request: PageRequest, queries: Queries): Promise<Endpoints> {
  const rows = await queries
    .selectFrom('endpoints')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toEndpoint)
}

async function findEndpoint(workspaceId: string, id: string, queries: Queries): Promise<EndpointRow> {
  const row = await queries.selectFrom('endpoints').selectAll().where('id', '=', id).executeTakeFirst()
  return owned(workspaceId, row, 'endpoint')
}

async function updateEndpoint(
  caller: WorkspaceCaller,
  { id, slug, targets }: UpdateEndpointRequest & { id: string },
  { transaction, changeLog, clock }: WriteParts,
): Promise<Endpoint & { previous_slug: string | null }> {
  const { workspace } = caller
  const { queries } = transaction
  const row = await findEndpoint(workspace.id, id, queries)
  const changed: EndpointRow = { ...row, updated_at: clock.now() }
  if (slug != null && slug !== row.slug) {
    await refuseForeignPrefix(workspace, slug, transaction)
    changed.slug = slug
  }
  if (targets != null) {
    await refuseUnknownTargets(caller, targets, queries)
    changed.targets = storedTargets(targets)
  }
  await refuseDuplicate(queries.updateTable('endpoints').set(changed).where('id', '=', id).execute(), () =>
    slugTaken(changed.slug),
  )
  changeLog.record(transaction, { kind: 'routing', workspaceId: workspace.id })
  return { ...toEndpoint(changed), previous_slug: changed.slug === row.slug ? null : row.slug }
}

async function deleteEndpoint(
  workspaceId: string,
  id: string,
  { transaction, changeLog }: WriteParts,
): Promise<EndpointTombstone> {
  const { slug } = await findEndpoint(workspaceId, id, transaction.queries)
  await transaction.queries.deleteFrom('endpoints').where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'routing', workspaceId })
  return { id, slug }
}

async function refuseForeignPrefix(workspace: WorkspaceRow, slug: string, transaction: Transaction): Promise<void> {
  const prefix = slug.slice(0, slug.indexOf('/'))
  const own = orgPrefixes(workspace)
  const isOwn = own.includes(anyPrefix)
    ? !(await isOthersPrefix(workspace.id, prefix, transaction))
    : own.includes(prefix)
  if (!isOwn) throw invalid('slug', `The prefix '${prefix}' does not belong to this workspace.`)
}

/** Until the transaction ends, nobody else can make the prefix theirs. */
async function isOthersPrefix(workspaceId: string, prefix: string, transaction: Transaction): Promise<boolean> {
  await takeLock('names', transaction)
  return (await othersPrefixes(workspaceId, transaction.queries)).has(prefix)
}

async function refuseUnknownTargets(
  caller: WorkspaceCaller,
  targets: readonly EndpointTarget[],
  queries: Queries,
): Promise<void> {
  const secretIds = targets.flatMap(({ secret_id }, index) =>
    secret_id === null ? [] : [{ path: `targets.${index}.secret_id`, secretId: secret_id }],
  )
  await refuseUnknownSecrets(caller, secretIds, queries)

  for (const [index, { model_id, environment_name }] of targets.entries()) {
    if (model_id === null) continue
    const model = await queries
      .selectFrom('models')
      .select('environments')
      .where('workspace_id', '=', caller.workspace.id)
      .where('id', '=', model_id)
      .executeTakeFirst()
    if (model === undefined) throw invalid(`targets.${index}.model_id`, `There is no model with the id '${model_id}'.`)
    const environments: { name: string }[] = JSON.parse(model.environments)
    if (environment_name !== null && !environments.some(({ name }) => name === environment_name)) {
      throw invalid(
        `targets.${index}.environment_name`,
        `The model '${model_id}' has no environment '${environment_name}'.`,
      )
    }
  }
}

/** `production` is what a target means that names no environment: both are stored, and shown, the same. */
function storedTargets(targets: readonly EndpointTarget[]): string {
  return JSON.stringify(
    targets.map((target) => ({
      ...target,
      environment_name: target.environment_name === 'production' ? null : target.environment_name,
    })),
  )
}

function audited({ id, slug }: Pick<EndpointRow, 'id' | 'slug'>) {
  return { gateway_endpoint_id: id, slug }
}

function slugTaken(slug: string): Error {
  return invalid('slug', `The slug '${slug}' is taken.`)
}

function toEndpoint({ id, slug, region, targets, created_at, updated_at }: EndpointRow): Endpoint {
  return {
    id,
    slug,
    region,
    targets: JSON.parse(targets),
    created_at: timestamp(created_at),
    updated_at: timestamp(updated_at),
  }
}
