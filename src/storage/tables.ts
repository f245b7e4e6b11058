import type { LimitEnforcement } from '../limits/effective-limits.ts'

/**
 * The rows as both engines hold them. Columns have the names of the wire; times are milliseconds since the
 * epoch, yes and no are 1 and 0, structured values are JSON text.
 */
export interface Tables {
  workspaces: WorkspaceRow
  workspace_keys: WorkspaceKeyRow
  models: ModelRow
  secrets: SecretRow
  endpoints: EndpointRow
  groups: GroupRow
  federated_keys: FederatedKeyRow
  events: EventRow
  usage_daily: UsageDailyRow
  ledger_heads: LedgerHeadRow
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

export interface WorkspaceKeyRow {
  id: string
  prefix: string
  hash: string
  workspace_id: string
  type: string
  name: string | null
  created_at: number
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
  revoked_at: number | null
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
