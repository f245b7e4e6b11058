import type { PersonRole, WorkspaceKeyType } from '../access/permissions.ts'
import type { LimitEnforcement } from '../limits/effective-limits.ts'

/**
 * The rows as both engines hold them. Columns have the names of the wire; times are milliseconds since the
 * epoch, yes and no are 1 and 0, structured values are JSON text.
 */
export interface Tables {
  workspaces: WorkspaceRow
  teams: TeamRow
  people: PersonRow
  workspace_keys: WorkspaceKeyRow
  models: ModelRow
  secrets: SecretRow
  endpoints: EndpointRow
  groups: GroupRow
  federated_keys: FederatedKeyRow
  domains: DomainRow
  events: EventRow
  usage_daily: UsageDailyRow
  ledger_heads: LedgerHeadRow
  ledger_beginnings: LedgerBeginningRow
  event_spans: EventSpanRow
  webhooks: WebhookRow
  webhook_deliveries: WebhookDeliveryRow
  audit_logs: AuditLogRow
  idempotent_answers: IdempotentAnswerRow
  locks: LockRow
  master_key_proofs: MasterKeyProofRow
  changes: ChangeRow
}

export interface WorkspaceRow {
  id: string
  name: string
  onboarded: 0 | 1
  org_prefixes: string
  key_prefix: string
  register_public_key: string | null
  created_at: number
}

/** Part of a lab. Every workspace has a default one, which stays. */
export interface TeamRow {
  id: string
  workspace_id: string
  name: string
  is_default: 0 | 1
  created_at: number
}

/** A person of the lab. Every workspace has an owner without an e-mail address, the workspace's own account, which stays. */
export interface PersonRow {
  id: string
  workspace_id: string
  email: string | null
  name: string | null
  role: PersonRole
  created_at: number
}

export interface WorkspaceKeyRow {
  id: string
  prefix: string
  hash: string
  workspace_id: string
  /** Null: the whole workspace's, or a person's. */
  team_id: string | null
  /** Of a personal key, and of no other. */
  person_id: string | null
  /** Of a personal key: what it may do at most, whatever its person's role becomes; null: all that the person may. */
  role_bound: PersonRole | null
  type: WorkspaceKeyType
  name: string | null
  /** JSON lists of what it is narrowed to; null: to nothing. */
  model_ids: string | null
  environments: string | null
  created_at: number
  last_used_at: number | null
  revoked_at: number | null
}

export interface ModelRow {
  id: string
  workspace_id: string
  name: string
  environments: string
  created_at: number
  updated_at: number
}

export interface SecretRow {
  id: string
  workspace_id: string
  team_id: string
  name: string
  sealed_value: string
  created_at: number
  updated_at: number
}

export interface EndpointRow {
  id: string
  workspace_id: string
  slug: string
  region: 'UNRESTRICTED' | 'EU'
  targets: string
  created_at: number
  updated_at: number
}

export interface GroupRow {
  id: string
  workspace_id: string
  external_entity_id: string
  name: string | null
  parent_group_id: string | null
  /** Ids from the group itself to its root, joined by `/`. Never changes: the hierarchy is immutable. */
  path: string
  limit_enforcement: LimitEnforcement
  models: string
  created_at: number
}

export interface FederatedKeyRow {
  id: string
  prefix: string
  hash: string
  workspace_id: string
  group_id: string
  name: string | null
  created_at: number
  expires_at: number | null
  last_used_at: number | null
  revoked_at: number | null
  /** The slugs that the key is narrowed to, as JSON; null: it follows its group. */
  slugs: string | null
  /** The key that has taken this one's place. */
  successor_prefix: string | null
}

/** A hostname on which only the keys of its workspace are known (contract §16). */
export interface DomainRow {
  id: string
  workspace_id: string
  hostname: string
  created_at: number
}

/** One billing event: the record itself (contract §14). Rows are only ever added, and removed by retention. */
export interface EventRow {
  idempotency_key: string
  workspace_id: string
  /** Per workspace, over all events: what cursors follow. */
  position: number
  /** Per workspace, over billable events only, without a gap; null for calls with a workspace key. */
  sequence: number | null
  request_id: string
  /** When the event was recorded, just before the response's last byte. */
  recorded_at: number
  /** When the request was admitted: its UTC day is the day it counts towards. */
  admitted_at: number
  request_metadata: string | null
  model_slug: string
  api_key_prefix: string
  group_id: string | null
  external_entity_id: string | null
  /** Ids of the groups whose day counters this request counts towards, joined by `/`. */
  counted_groups: string
  input_tokens: number
  output_tokens: number
  cached_input_tokens: number
  outcome: 'completed' | 'client_closed' | 'upstream_cut'
  usage_source: 'upstream' | 'estimated'
}

/** The roll-up of events by UTC day of admission, counted group and slug; what day counters start from. */
export interface UsageDailyRow {
  workspace_id: string
  day: string
  group_id: string
  slug: string
  /** The process whose counters counted it: their sum is the usage. Empty for counters that no other node shares. */
  node: string
  requests: number
  input_tokens: number
  output_tokens: number
  cached_input_tokens: number
}

/** Where each workspace's record ends: the last position and sequence given out. */
export interface LedgerHeadRow {
  workspace_id: string
  position: number
  sequence: number
}

/**
 * Between which positions the events lie that were recorded within ten minutes: how a window of time becomes a
 * range of positions, although events of several nodes do not arrive in the order of their time.
 */
export interface EventSpanRow {
  workspace_id: string
  started_at: number
  first_position: number
  last_position: number
}

/** Where a workspace's billing events are sent, and how far they have been handed over (contract §14). */
export interface WebhookRow {
  id: string
  workspace_id: string
  url: string
  retry_window_seconds: number
  sealed_secret: string
  /** After a rotation: signs beside the present secret until `previous_secret_until`. */
  sealed_previous_secret: string | null
  previous_secret_until: number | null
  /** The position in the record up to which events have been put into deliveries. */
  position: number
  /** The sequence of the last event put into a delivery; null before the first one. */
  sequence: number | null
  created_at: number
  updated_at: number
  /** Deleted: nothing is sent any more, and the row goes once its deliveries have gone. */
  deleted_at: number | null
}

export const deliveryStatuses = ['pending', 'delivered', 'dead'] as const
export type DeliveryStatus = (typeof deliveryStatuses)[number]

/** The events of one delivery were recorded within this: so a window of time bounds where to look for its deliveries. */
export const deliverySpanMs = 600_000

/** Consecutive events of a workspace, sent to a webhook in one request: again and again until it is answered. */
export interface WebhookDeliveryRow {
  id: string
  webhook_id: string
  workspace_id: string
  /** `X-Baseten-Request-ID`: a UUID, the same on every attempt. */
  request_id: string
  status: DeliveryStatus
  first_position: number
  last_position: number
  first_sequence: number
  last_sequence: number
  /** The earliest and the latest of its events. */
  first_recorded_at: number
  last_recorded_at: number
  /** Since it was last asked for: a redelivery begins anew. */
  attempts: number
  first_attempt_at: number | null
  last_attempt_at: number | null
  /** Null unless pending. */
  next_attempt_at: number | null
  /** While an attempt is under way: nobody else makes one before this. */
  claimed_until: number | null
  /** What came of the last attempt: the receiver's status, or why there was none. */
  response_status: number | null
  error: string | null
  created_at: number
  /** When it was delivered, or given up. */
  finished_at: number | null
}

/** Who changed what: written in the transaction of the change, never changed (contract §15). */
export interface AuditLogRow {
  id: string
  workspace_id: string
  created_at: number
  event_type: string
  event_data: string
  /** In lower case, a line each: all that the entry can be found by. */
  search_text: string
  /** `BASETEN_USER`: the operator of the installation. */
  actor_type: 'API_KEY' | 'USER' | 'BASETEN_USER'
  actor_key_prefix: string | null
  actor_key_name: string | null
  actor_person_id: string | null
  actor_email: string | null
  source: 'UI' | 'API' | 'MCP' | 'SYSTEM' | 'OTHER'
  client_name: string | null
  client_version: string | null
}

/** The first answer to a request that came with an `Idempotency-Key`, kept for a day. */
export interface IdempotentAnswerRow {
  /** A hash of whose the key is, where it was used, and of the key itself. */
  id: string
  /** Empty where it is sealed with the answer. */
  request_hash: string
  sealed_answer: string
  created_at: number
}

/** The last event of each workspace that retention has removed, and the latest day that such an event counted to. */
export interface LedgerBeginningRow {
  workspace_id: string
  position: number
  sequence: number
  day: string
}

/** Something sealed under the master key (`master-key-proof.ts`). */
export interface MasterKeyProofRow {
  id: string
  sealed_proof: string
}

export const lockNames = ['names', 'changes'] as const
export type LockName = (typeof lockNames)[number]

/** A row that is there to be locked (`locks.ts`). */
export interface LockRow {
  name: LockName
  /** How often it has been locked. */
  times: number
}

/** What a committed write made stale, for the other nodes (`shared-changes.ts`). The newest 10,000 are kept. */
export interface ChangeRow {
  /** Ascends by one, in the order of the commits. */
  id: number
  /** Tells it from any other that had its id, before a database was set back. */
  stamp: string
  change: string
}
