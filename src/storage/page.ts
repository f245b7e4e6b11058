import { z } from 'zod'
import { invalid } from '../errors.ts'

/**
 * Pages of a list: keyset over ids, which ascend with time, so a page is stable while rows come and go
 * before it (contract §4).
 */
export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(1000).default(100).describe('Page size, 1 to 1000.'),
  cursor: z.string().optional().describe("The previous page's `pagination.cursor`."),
}

export const Pagination = z
  .object({ has_more: z.boolean(), cursor: z.string().nullable() })
  .meta({ id: 'PaginationResponseV1' })

export type Pagination = z.infer<typeof Pagination>

export interface PageRequest {
  limit: number
  cursor?: string | undefined
}

/** The id that a page starts after, or '' for the first page. Throws a 400 on a cursor that we did not make. */
export function pageStart({ cursor }: PageRequest): string {
  if (cursor === undefined) return ''
  const id = Buffer.from(cursor, 'base64').toString('utf8')
  if (!/^[0-9a-z_.-]{1,128}$/i.test(id) || encodeCursor(id) !== cursor) {
    throw invalid('cursor', "The cursor is not valid; pass the previous response's pagination.cursor as it is.")
  }
  return id
}

/** The page that `rows`, read with a limit of one more than asked for, make up. */
export function page<Row extends { id: string }, Item>(
  rows: readonly Row[],
  { limit }: PageRequest,
  toItem: (row: Row) => Item,
): { items: Item[]; pagination: Pagination } {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  const hasMore = rows.length > limit && last !== undefined
  return {
    items: shown.map(toItem),
    pagination: { has_more: hasMore, cursor: hasMore ? encodeCursor(last.id) : null },
  }
}

/** What `pageStart` reads: a page that goes on after `id`. */
export function encodeCursor(id: string): string {
  return Buffer.from(id, 'utf8').toString('base64')
}
