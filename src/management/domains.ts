import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { invalid } from '../errors.ts'
import { canonicalHostname } from '../hostname.ts'
import { newId } from '../id.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import { type PageRequest, Pagination, page, pageQuery, pageStart } from '../storage/page.ts'
import type { DomainRow } from '../storage/tables.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'
import { refuseBeyond } from './at-most.ts'
import { owned } from './owned.ts'
import { defineRoute, type Route } from './route.ts'
import { Timestamp, timestamp } from './timestamp.ts'

const CreateDomainRequest = z
  .strictObject({ hostname: z.string().max(253).describe('Like api.your-lab.com: no scheme, no port, no path.') })
  .meta({ id: 'CreateDomainRequestV1' })

const Domain = z.object({ id: z.string(), hostname: z.string(), created_at: Timestamp }).meta({ id: 'DomainV1' })
type Domain = z.output<typeof Domain>

const Domains = z.object({ items: z.array(Domain), pagination: Pagination }).meta({ id: 'DomainsResponseV1' })
type Domains = z.output<typeof Domains>

const DomainTombstone = z
  .object({ id: z.string(), hostname: z.string(), deleted_at: Timestamp })
  .meta({ id: 'DomainTombstoneV1' })
type DomainTombstone = z.output<typeof DomainTombstone>

/** All of them are in each node's memory. */
const domainsMax = 1_000

export interface DomainParts {
  /** Those that no workspace may claim. */
  reservedHostnames: readonly string[]
  changeLog: ChangeLog
  clock: Clock
}

/** The lab's own hostnames: on them, no other workspace's key is known (contract §16). */
export function domainRoutes(parts: DomainParts): Route[] {
  const tag = 'Domains'
  const path = '/v1/gateway/domains'
  return [
    defineRoute({
      method: 'POST',
      path,
      permission: 'domains:manage',
      summary: 'Claim a hostname for the workspace',
      tag,
      body: CreateDomainRequest,
      response: Domain,
      handler: ({ workspace, body, transaction }) =>
        createDomain(workspace.id, body.hostname, { ...parts, transaction }),
      audit: ({ id, hostname }) => ({ event_type: 'DOMAIN_CREATED', domain_id: id, hostname }),
    }),
    defineRoute({
      method: 'GET',
      path,
      permission: 'domains:view',
      summary: 'List hostnames',
      tag,
      query: pageQuery,
      response: Domains,
      handler: ({ workspace, query, queries }) => listDomains(workspace.id, query, queries),
    }),
    defineRoute({
      method: 'DELETE',
      path: `${path}/{domain_id}`,
      permission: 'domains:manage',
      summary: 'Give a hostname up',
      tag,
      response: DomainTombstone,
      handler: ({ workspace, params, transaction }) =>
        deleteDomain(workspace.id, params.domain_id, { ...parts, transaction }),
      audit: ({ id, hostname }) => ({ event_type: 'DOMAIN_DELETED', domain_id: id, hostname }),
    }),
  ]
}

interface WriteParts extends DomainParts {
  transaction: Transaction
}

async function createDomain(
  workspaceId: string,
  given: string,
  { transaction, changeLog, clock, reservedHostnames }: WriteParts,
): Promise<Domain> {
  const hostname = canonicalHostname(given)
  if (hostname === null) {
    throw invalid('hostname', 'Must be a hostname like api.your-lab.com, without a scheme, a port or a path.')
  }
  if (reservedHostnames.includes(hostname)) throw invalid('hostname', `${hostname} belongs to the installation.`)
  const domains = transaction.queries.selectFrom('domains').where('workspace_id', '=', workspaceId)
  await refuseBeyond(domainsMax, 'hostnames', domains)
  const row: DomainRow = { id: newId(clock.now()), workspace_id: workspaceId, hostname, created_at: clock.now() }
  await refuseDuplicate(transaction.queries.insertInto('domains').values(row).execute(), () =>
    invalid('hostname', `${hostname} is already taken.`),
  )
  changeLog.record(transaction, { kind: 'domains' })
  return toDomain(row)
}

async function listDomains(workspaceId: string, request: PageRequest, queries: Queries): Promise<Domains> {
  const rows = await queries
    .selectFrom('domains')
    .selectAll()
    .where('workspace_id', '=', workspaceId)
    .where('id', '>', pageStart(request))
    .orderBy('id')
    .limit(request.limit + 1)
    .execute()
  return page(rows, request, toDomain)
}

async function deleteDomain(
  workspaceId: string,
  id: string,
  { transaction, changeLog, clock }: WriteParts,
): Promise<DomainTombstone> {
  const row = await transaction.queries.selectFrom('domains').selectAll().where('id', '=', id).executeTakeFirst()
  const { hostname } = owned(workspaceId, row, 'domain')
  await transaction.queries.deleteFrom('domains').where('id', '=', id).execute()
  changeLog.record(transaction, { kind: 'domains' })
  return { id, hostname, deleted_at: timestamp(clock.now()) }
}

function toDomain({ id, hostname, created_at }: DomainRow): Domain {
  return { id, hostname, created_at: timestamp(created_at) }
}
