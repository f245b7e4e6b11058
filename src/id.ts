import { monotonicFactory } from 'ulid'

const nextUlid = monotonicFactory()

/**
 * A new resource id: a ULID in lower case. Ids of one process ascend strictly, so "oldest first" is the
 * order of ids, and a page never skips a row that was added in the same millisecond.
 */
export function newId(nowMs: number): string {
  return nextUlid(nowMs).toLowerCase()
}

/** A new idempotency key of a billing event: a ULID as its specification writes it (contract §14). */
export function newIdempotencyKey(nowMs: number): string {
  return nextUlid(nowMs)
}
