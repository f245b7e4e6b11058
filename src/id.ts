import { randomFillSync } from 'node:crypto'
import { monotonicFactory } from 'ulid'

const nextUlid = monotonicFactory(pooledRandom())

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

/** Cryptographic random numbers from 0 to 1, drawn 1,024 at a time: a ULID takes 16, each a system call by itself. */
function pooledRandom(): () => number {
  const pool = new Uint32Array(1024)
  let next = pool.length
  return () => {
    if (next === pool.length) {
      randomFillSync(pool)
      next = 0
    }
    const drawn = pool[next] ?? 0
    next += 1
    return drawn / 2 ** 32
  }
}
