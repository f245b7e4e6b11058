import type { SelectQueryBuilder } from 'kysely'
import { ApiError } from '../errors.ts'
import type { Tables } from '../storage/tables.ts'

/** Throws a 400 where a workspace has as many as it may; `rows` are those that it has, `what` their name in the plural. */
export async function refuseBeyond<Table extends keyof Tables>(
  max: number,
  what: string,
  rows: SelectQueryBuilder<Tables, Table, object>,
): Promise<void> {
  const { count } = await rows.select((eb) => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow()
  if (Number(count) < max) return
  throw new ApiError('VALIDATION_ERROR', { message: `A workspace has at most ${max} ${what}.` })
}
