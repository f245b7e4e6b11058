import type { Queries } from '../storage/database.ts'
import type { EventRow, EventSpanRow, LedgerHeadRow, UsageDailyRow } from '../storage/tables.ts'
import { rowsStatement } from './rows-statement.ts'

/** What the ledger writes with, each a function of a transaction and rows; `queries` says for which engine. */
export function ledgerStatements(queries: Queries) {
  return {
    lockHeads: lockHeads(queries),
    findRecorded: findRecorded(queries),
    addEvents: addEvents(queries),
    addUsage: addUsage(queries),
    extendSpans: extendSpans(queries),
    moveHeads: moveHeads(queries),
  }
}

const headColumns = ['workspace_id', 'position', 'sequence'] as const

/** Makes the heads that do not exist; locks and returns all of them. An update that changes nothing takes the row's
 *  lock on both engines. */
function lockHeads(queries: Queries) {
  return rowsStatement({
    columns: headColumns,
    compile: (heads: readonly LedgerHeadRow[]) =>
      queries
        .insertInto('ledger_heads')
        .values(heads)
        .onConflict((conflict) =>
          conflict.column('workspace_id').doUpdateSet((eb) => ({ position: eb.ref('ledger_heads.position') })),
        )
        .returningAll()
        .compile(),
  })
}

function moveHeads(queries: Queries) {
  return rowsStatement({
    columns: headColumns,
    compile: (heads: readonly LedgerHeadRow[]) =>
      queries
        .insertInto('ledger_heads')
        .values(heads)
        .onConflict((conflict) =>
          conflict.column('workspace_id').doUpdateSet((eb) => ({
            position: eb.ref('excluded.position'),
            sequence: eb.ref('excluded.sequence'),
          })),
        )
        .compile(),
  })
}

/** Which idempotency keys the ledger has already. */
function findRecorded(queries: Queries) {
  return rowsStatement({
    columns: ['idempotencyKey'],
    compile: (events: readonly { idempotencyKey: string }[]) => {
      const keys = events.map(({ idempotencyKey }) => idempotencyKey)
      return queries.selectFrom('events').select('idempotency_key').where('idempotency_key', 'in', keys).compile()
    },
  })
}

function addEvents(queries: Queries) {
  return rowsStatement({
    columns: [
      'idempotency_key',
      'workspace_id',
      'position',
      'sequence',
      'request_id',
      'recorded_at',
      'admitted_at',
      'request_metadata',
      'model_slug',
      'api_key_prefix',
      'group_id',
      'external_entity_id',
      'counted_groups',
      'input_tokens',
      'output_tokens',
      'cached_input_tokens',
      'outcome',
      'usage_source',
    ],
    compile: (rows: readonly EventRow[]) => queries.insertInto('events').values(rows).compile(),
  })
}

function addUsage(queries: Queries) {
  return rowsStatement({
    columns: [
      'workspace_id',
      'day',
      'group_id',
      'slug',
      'node',
      'requests',
      'input_tokens',
      'output_tokens',
      'cached_input_tokens',
    ],
    compile: (rows: readonly UsageDailyRow[]) =>
      queries
        .insertInto('usage_daily')
        .values(rows)
        .onConflict((conflict) =>
          conflict.columns(['day', 'group_id', 'slug', 'node']).doUpdateSet((eb) => ({
            requests: eb('usage_daily.requests', '+', eb.ref('excluded.requests')),
            input_tokens: eb('usage_daily.input_tokens', '+', eb.ref('excluded.input_tokens')),
            output_tokens: eb('usage_daily.output_tokens', '+', eb.ref('excluded.output_tokens')),
            cached_input_tokens: eb('usage_daily.cached_input_tokens', '+', eb.ref('excluded.cached_input_tokens')),
          })),
        )
        .compile(),
  })
}

/** Positions only ascend: a span that exists keeps its first one. */
function extendSpans(queries: Queries) {
  return rowsStatement({
    columns: ['workspace_id', 'started_at', 'first_position', 'last_position'],
    compile: (spans: readonly EventSpanRow[]) =>
      queries
        .insertInto('event_spans')
        .values(spans)
        .onConflict((conflict) =>
          conflict
            .columns(['workspace_id', 'started_at'])
            .doUpdateSet((eb) => ({ last_position: eb.ref('excluded.last_position') })),
        )
        .compile(),
  })
}
