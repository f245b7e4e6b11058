import { hash } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { ApiError } from '../errors.ts'
import type { Queries, Transaction } from '../storage/database.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'

const rememberedMs = 24 * 3_600_000
/** How many answers one request sweeps away: more than it adds, and never so many that others wait for it. */
const sweptMax = 100

const IdempotencyKey = z.string().regex(/^[\x21-\x7e]{1,255}$/)

/** What a POST may carry to be safe to send again; to be declared with the route's other headers. */
export const idempotencyHeader = {
  'idempotency-key': IdempotencyKey.optional().describe(
    'Sent again with the same body within 24 hours, the request is not carried out again: the first answer comes back.',
  ),
}

export interface IdempotentRequest {
  /** The `Idempotency-Key` header. */
  key: string
  /** Whose it is: keys of different callers and paths have nothing to do with one another. */
  caller: string
  path: string
  body: unknown
}

export interface IdempotencyParts {
  transaction: Transaction
  clock: Clock
  secretBox: SecretBox
}

/**
 * What `serve` answers, or answered to the same request within the last 24 hours. Throws 409 where the key came with
 * another body (contract §4). A failed request leaves nothing, so sent again it is tried again.
 */
export async function answerOnce<Answer>(
  { key, caller, path, body }: IdempotentRequest,
  { transaction, clock, secretBox }: IdempotencyParts,
  serve: () => Promise<Answer>,
): Promise<Answer> {
  const { queries } = transaction
  const id = hash('sha256', JSON.stringify([caller, path, key]), 'base64')
  const request_hash = hash('sha256', JSON.stringify(body ?? {}), 'base64')
  // Answers hold what is shown once, keys above all.
  const purpose = answerPurpose(id)

  await forget({ id, recordedBeforeMs: clock.now() - rememberedMs }, queries)
  const first = await queries.selectFrom('idempotent_answers').selectAll().where('id', '=', id).executeTakeFirst()
  if (first !== undefined) {
    if (first.request_hash !== request_hash) throw keyInUse()
    return JSON.parse(secretBox.open(first.sealed_answer, purpose))
  }
  const answer = await serve()
  const sealed_answer = secretBox.seal(JSON.stringify(answer), purpose)
  await refuseDuplicate(
    queries
      .insertInto('idempotent_answers')
      .values({ id, request_hash, sealed_answer, created_at: clock.now() })
      .execute(),
    keyInUse,
  )
  return answer
}

/** What a remembered answer is sealed for: its row, and no other. */
export function answerPurpose(id: string): string {
  return `idempotent answer ${id}`
}

/** Removes the answer `id` where it is too old, and the oldest of the others that are. */
async function forget(
  { id, recordedBeforeMs }: { id: string; recordedBeforeMs: number },
  queries: Queries,
): Promise<void> {
  await queries
    .deleteFrom('idempotent_answers')
    .where('created_at', '<=', recordedBeforeMs)
    .where(({ or, eb }) =>
      or([
        eb('id', '=', id),
        eb(
          'id',
          'in',
          queries
            .selectFrom('idempotent_answers')
            .select('id')
            .where('created_at', '<=', recordedBeforeMs)
            .orderBy('created_at')
            .limit(sweptMax),
        ),
      ]),
    )
    .execute()
}

function keyInUse(): ApiError {
  return new ApiError('CONFLICT', {
    message: 'This Idempotency-Key came with another request, or one that is under way.',
  })
}
