import type { Queries } from '../storage/database.ts'
import { type RecordedEvent, toRecordedEvent } from './event-row.ts'
import { eventPages } from './verify.ts'
import { toWireEvent } from './wire-event.ts'

export const exportFormats = ['jsonl', 'csv'] as const
export type ExportFormat = (typeof exportFormats)[number]

export interface ExportQuery {
  /** Null for all workspaces. */
  workspaceId: string | null
  /** Recorded at or after this, and before `toMs`: wall clock. */
  fromMs: number
  toMs: number
  format: ExportFormat
}

/** The record of a span of time as text, a page of lines at a time; workspace by workspace, oldest first. */
export async function* exportLedger(queries: Queries, query: ExportQuery): AsyncGenerator<string> {
  const { workspaceId, fromMs, toMs, format } = query
  if (format === 'csv') yield `${columns.join(',')}\r\n`
  const heads = await queries.selectFrom('ledger_heads').select('workspace_id').orderBy('workspace_id').execute()
  for (const { workspace_id } of heads) {
    if (workspaceId !== null && workspace_id !== workspaceId) continue
    for await (const rows of eventPages(queries, workspace_id)) {
      const within = rows.filter(({ recorded_at }) => recorded_at >= fromMs && recorded_at < toMs)
      if (within.length > 0) yield within.map((row) => lineOf[format](toRecordedEvent(row))).join('')
    }
  }
}

const lineOf = {
  jsonl: (event) => `${JSON.stringify({ workspaceId: event.workspaceId, ...toWireEvent(event) })}\n`,
  csv: (event) => `${columns.map((column) => csvField(csvValues(event)[column])).join(',')}\r\n`,
} satisfies Record<ExportFormat, (event: RecordedEvent) => string>

const columns = [
  'workspaceId',
  'idempotencyKey',
  'sequence',
  'timestamp',
  'requestId',
  'modelSlug',
  'externalEntityId',
  'apiKeyPrefix',
  'inputTokens',
  'outputTokens',
  'cachedInputTokens',
  'outcome',
  'usageSource',
  'requestMetadata',
] as const

type CsvValues = Record<(typeof columns)[number], string | number | null>

function csvValues(event: RecordedEvent): CsvValues {
  const { tokens, requestMetadata, ...wire } = toWireEvent(event)
  return { ...wire, ...tokens, workspaceId: event.workspaceId, requestMetadata: JSON.stringify(requestMetadata) }
}

/** RFC 4180: quoted where it has to be, and then with its quotes doubled. */
function csvField(value: string | number | null): string {
  const text = value === null ? '' : String(value)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
