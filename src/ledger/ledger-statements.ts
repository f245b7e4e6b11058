import { type RawBuilder, sql } from 'kysely'
import type { Queries } from '../storage/database.ts'
import type { EventRow, EventSpanRow, LedgerHeadRow, UsageDailyRow } from '../storage/tables.ts'
import { dayTokensMax } from '../token-bounds.ts'
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

function headParameters({ workspace_id, position, sequence }: LedgerHeadRow): unknown[] {
  return [workspace_id, position, sequence]
}

/** Makes the heads that do not exist; locks and returns all of them. An update that changes nothing takes the row's
 *  lock on both engines. */
function lockHeads(queries: Queries) {
  return rowsStatement({
    parametersOf: headParameters,
    compile: (heads) =>
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
    parametersOf: headParameters,
    compile: (heads) =>
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
    parametersOf: ({ idempotencyKey }: { idempotencyKey: string }) => [idempotencyKey],
    compile: (events) => {
      const keys = events.map(({ idempotencyKey }) => idempotencyKey)
      return queries.selectFrom('events').select('idempotency_key').where('idempotency_key', 'in', keys).compile()
    },
  })
}

function addEvents(queries: Queries) {
  return rowsStatement({
    parametersOf: (row: EventRow) => [
      row.idempotency_key,
      row.workspace_id,
      row.position,
      row.sequence,
      row.request_id,
      row.recorded_at,
      row.admitted_at,
      row.request_metadata,
      row.model_slug,
      row.api_key_prefix,
      row.group_id,
      row.external_entity_id,
      row.counted_groups,
      row.input_tokens,
      row.output_tokens,
      row.cached_input_tokens,
      row.outcome,
      row.usage_source,
    ],
    compile: (rows) => queries.insertInto('events').values(rows).compile(),
  })
}

function addUsage(queries: Queries) {
  return rowsStatement({
    parametersOf: (row: UsageDailyRow) => [
      row.workspace_id,
      row.day,
      row.group_id,
      row.slug,
      row.node,
      row.requests,
      row.input_tokens,
      row.output_tokens,
      row.cached_input_tokens,
    ],
    compile: (rows) =>
      queries
        .insertInto('usage_daily')
        .values(rows)
        .onConflict((conflict) =>
          conflict.columns(['day', 'group_id', 'slug', 'node']).doUpdateSet((eb) => ({
            requests: eb('usage_daily.requests', '+', eb.ref('excluded.requests')),
            input_tokens: bounded(sql`usage_daily.input_tokens + excluded.input_tokens`),
            output_tokens: bounded(sql`usage_daily.output_tokens + excluded.output_tokens`),
            cached_input_tokens: bounded(sql`usage_daily.cached_input_tokens + excluded.cached_input_tokens`),
          })),
        )
        .compile(),
  })
}

/** A sum that can no longer be read would keep the next start from reading all others. */
function bounded(sum: RawBuilder<number>): RawBuilder<number> {
  const max = sql.lit(dayTokensMax)
  return sql`case when ${sum} > ${max} then ${max} else ${sum} end`
}

/** Positions only ascend: a span that exists keeps its first one. */
function extendSpans(queries: Queries) {
  return rowsStatement({
    parametersOf: (row: EventSpanRow) => [row.workspace_id, row.started_at, row.first_position, row.last_position],
    compile: (spans) =>
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
