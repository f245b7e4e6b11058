import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import { newId } from '../id.ts'
import type { EndpointTarget } from '../providers.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { ModelRow } from '../storage/tables.ts'
import type { WorkspaceCaller } from './authentication.ts'
import { distinct } from './distinct.ts'
import { owned } from './owned.ts'
import { defineRoute, type Route } from './route.ts'
import { refuseUnknownSecrets } from './secret-references.ts'
import { Timestamp, timestamp } from './timestamp.ts'
import { UpstreamUrl } from './upstream-url.ts'

/** The environment that every model has, and that a target means which names none. */
const production = 'production'

const ModelEnvironment = z
  .strictObject({
    name: z
      .string()
      .max(64)
      .regex(/^[\w.~-]+$/, 'Must be URL-safe: letters, digits and ._~-.'),
    base_url: UpstreamUrl,
    secret_id: z.string().nullable().default(null).describe('Its value is sent upstream as a bearer token.'),
  })
  .meta({ id: 'ModelEnvironmentV1' })
type ModelEnvironment = z.output<typeof ModelEnvironment>

const name = z.string().min(1).max(255).describe('For people.')
const environments = distinct(ModelEnvironment, {
  by: (environment) => environment.name,
  message: (environmentName) => `There is already an environment '${environmentName}'.`,
})
  .max(100)
  .refine((list) => list.some((environment) => environment.name === production), {
    error: `There must be a '${production}' environment.`,
  })

const CreateModelRequest = z.strictObject({ name, environments }).meta({ id: 'CreateModelRequestV1' })
type CreateModelRequest = z.output<typeof CreateModelRequest>

const UpdateModelRequest = z
  .strictObject({ name: name.exactOptional(), environments: environments.exactOptional() })
  .meta({ id: 'UpdateModelRequestV1' })
type UpdateModelRequest = z.output<typeof UpdateModelRequest>

const Model = z
  .object({
    id: z.string(),
    name: z.string(),
    environments: z.array(ModelEnvironment),
    created_at: Timestamp,
    updated_at: Timestamp,
  })
  .meta({ id: 'ModelV1' })
type Model = z.output<typeof Model>

const Models = z.object({ models: z.array(Model) }).meta({ id: 'ModelsV1' })
type Models = z.output<typeof Models>

const ModelTombstone = z
  .object({ id: z.string(), name: z.string(), deleted_at: Timestamp })
  .meta({ id: 'ModelTombstoneV1' })
type ModelTombstone = z.output<typeof ModelTombstone>

export interface ModelParts {
  changeLog: ChangeLog
  clock: Clock
}

/** The lab's own deployments: one upstream for each environment (contract §6). */
export function modelRoutes(parts: ModelParts): Route[] {
  const tag = 'Models'
  const path = '/v1/models'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'models:manage',
      summary: 'Register a model',
      tag,
      body: CreateModelRequest,
      response: Model,
      handler: ({ workspace, actor, body, transaction }) =>
        createModel({ workspace, actor }, body, { ...parts, transaction }),
      audit: (model) => ({ event_type: 'MODEL_CREATED', ...audited(model) }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'models:view',
      summary: 'List models',
      tag,
      response: Models,
      handler: ({ workspace, queries }) => listModels(workspace.id, queries),
    }),
    defineRoute({
      method: 'GET',
      path: `${path}/{model_id}`,
      permission: 'models:view',
      summary: 'Get a model',
      tag,
      response: Model,
      handler: async ({ workspace, params, queries }) =>
        toModel(await findModel(workspace.id, params.model_id, queries)),
    }),
    defineRoute({
      method: 'PATCH',
      path: `${path}/{model_id}`,
      permission: 'models:manage',
      summary: "Change a model's name, environments or both",
      tag,
      body: UpdateModelRequest,
      response: Model,
      handler: ({ workspace, actor, params, body, transaction }) =>
        updateModel({ workspace, actor }, { id: params.model_id, ...body }, { ...parts, transaction }),
      audit: (model) => ({ event_type: 'MODEL_UPDATED', ...audited(model) }),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{model_id}`,
      permission: 'models:manage',
      summary: 'Delete a model that no endpoint uses',
      tag,
      response: ModelTombstone,
      errors: ['CONFLICT'],
      handler: ({ workspace, params, transaction }) =>
        deleteModel(workspace.id, params.model_id, { ...parts, transaction }),
      audit: ({ id, name }) => ({ event_type: 'MODEL_DELETED', model_id: id, model_name: name }),
    }),
  ]
}

interface WriteParts extends ModelParts {
  transaction: Transaction
}

async function createModel(
  caller: WorkspaceCaller,
  { name, environments }: CreateModelRequest,
  { transaction, changeLog, clock }: WriteParts,
): Promise<Model> {
  const nowMs = clock.now()
  const row: ModelRow = {
    id: newId(nowMs),
    workspace_id: caller.workspace.id,
    name,
    environments: JSON.stringify(environments),
    created_at: nowMs,
    updated_at: nowMs,
  }
  await refuseUnknownSecrets(caller, secretReferences(environments), transaction.queries)
  await transaction.queries.insertInto('models').values(row).execute()
  changeLog.record(transaction, { kind: 'routing', workspaceId: row.workspace_id })
  return toModel(row)
}

async function listModels(workspaceId: string, queries: Queries): Promise<Models> {
  const rows = await queries
    .selectFrom('models')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .orderBy('id')
    .execute()
  return { models: rows.map(toModel) }
}

async function findModel(workspaceId: string, id: string, queries: Queries): Promise<ModelRow> {
  const row = await queries.selectFrom('models').selectAll().where('id', '=', id).executeTakeFirst()
  return owned(workspaceId, row, 'model')
}

async function updateModel(
  caller: WorkspaceCaller,
  { id, name, environments }: UpdateModelRequest & { id: string },
  { transaction, changeLog, clock }: WriteParts,
): Promise<Model> {
  const { queries } = transaction
  const workspaceId = caller.workspace.id
  const row = await findModel(workspaceId, id, queries)
  const changed: ModelRow = { ...row, name: name ?? row.name, updated_at: clock.now() }
  if (environments !== undefined) {
    await refuseUnknownSecrets(caller, secretReferences(environments), queries)
    await refuseLosingEnvironment(workspaceId, { id, environments }, queries)
    changed.environments = JSON.stringify(environments)
  }
  await queries.updateTable('models').set(changed).where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'routing', workspaceId })
  return toModel(changed)
}

async function deleteModel(
  workspaceId: string,
  id: string,
  { transaction, changeLog, clock }: WriteParts,
): Promise<ModelTombstone> {
  const { name } = await findModel(workspaceId, id, transaction.queries)
  const [use] = await modelUses(workspaceId, id, transaction.queries)
  if (use !== undefined) {
    throw new ApiError('CONFLICT', { message: `The endpoint '${use.slug}' uses this model.` })
  }
  await transaction.queries.deleteFrom('models').where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'routing', workspaceId })
  return { id, name, deleted_at: timestamp(clock.now()) }
}

async function refuseLosingEnvironment(
  workspaceId: string,
  { id, environments }: { id: string; environments: readonly ModelEnvironment[] },
  queries: Queries,
): Promise<void> {
  const kept = new Set(environments.map((environment) => environment.name))
  for (const { slug, environmentName } of await modelUses(workspaceId, id, queries)) {
    if (!kept.has(environmentName)) {
      throw invalid('environments', `The endpoint '${slug}' uses the environment '${environmentName}'.`)
    }
  }
}

/** The endpoints that a model serves, each with the environment that it serves them from. */
async function modelUses(
  workspaceId: string,
  modelId: string,
  queries: Queries,
): Promise<{ slug: string; environmentName: string }[]> {
  const endpoints = await queries
    .selectFrom('endpoints')
    .select(['slug', 'targets'])
    .where('workspace_id', '=', workspaceId)
    .execute()
  return endpoints.flatMap(({ slug, targets }) => {
    const stored: EndpointTarget[] = JSON.parse(targets)
    return stored
      .filter(({ model_id }) => model_id === modelId)
      .map(({ environment_name }) => ({ slug, environmentName: environment_name ?? production }))
  })
}

function secretReferences(environments: readonly ModelEnvironment[]): { path: string; secretId: string }[] {
  return environments.flatMap(({ secret_id }, index) =>
    secret_id === null ? [] : [{ path: `environments.${index}.secret_id`, secretId: secret_id }],
  )
}

function audited({ id, name, environments }: Model) {
  return { model_id: id, model_name: name, environment_names: environments.map((environment) => environment.name) }
}

function toModel({ id, name, environments, created_at, updated_at }: ModelRow): Model {
  return {
    id,
    name,
    environments: JSON.parse(environments),
    created_at: timestamp(created_at),
    updated_at: timestamp(updated_at),
  }
}
