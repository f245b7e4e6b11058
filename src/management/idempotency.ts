import { hash } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { ApiError } from '../errors.ts'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import type { Log } from '../log.ts'
import type { Database, Queries, Transaction } from '../storage/database.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import type { IdempotentAnswerRow } from '../storage/tables.ts'
import { refuseDuplicate } from '../storage/unique-violation.ts'
import { startSweeps } from '../sweeps.ts'

const rememberedMs = 24 * 3_600_000
/** So few that nobody waits long for the database meanwhile. */
const forgottenAtOnce = 500

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
  const requestHash = hash('sha256', JSON.stringify(body ?? {}), 'base64')

  await queries
    .deleteFrom('idempotent_answers')
    .where('id', '=', id)
    .where('created_at', '<=', clock.now() - rememberedMs)
    .execute()
  const row = await queries.selectFrom('idempotent_answers').selectAll().where('id', '=', id).executeTakeFirst()
  if (row !== undefined) {
    const first = openAnswer(row, secretBox)
    if (first.requestHash !== requestHash) throw keyInUse()
    return first.answer as Answer
  }
  const answer = await serve()
  const sealed_answer = secretBox.seal(JSON.stringify({ requestHash, answer }), answerPurpose(id))
  await refuseDuplicate(
    queries
      .insertInto('idempotent_answers')
      .values({ id, request_hash: '', sealed_answer, created_at: clock.now() })
      .execute(),
    keyInUse,
  )
  return answer
}

/**
 * Sealed, since answers hold what is shown once, keys above all, and a bare hash of a request would let a reader of the
 * database try what the secret in it was. Rows of earlier versions have that hash beside the answer.
 */
function openAnswer(
  { id, request_hash, sealed_answer }: IdempotentAnswerRow,
  secretBox: SecretBox,
): { requestHash: string; answer: unknown } {
  const opened = JSON.parse(secretBox.open(sealed_answer, answerPurpose(id)))
  return request_hash === '' ? opened : { requestHash: request_hash, answer: opened }
}

/** What a remembered answer is sealed for: its row, and no other. */
export function answerPurpose(id: string): string {
  return `idempotent answer ${id}`
}

/** Removes answers that are not needed any more, within a minute, whether or not anybody sends requests. */
export function startForgettingAnswers(parts: { database: Database; clock: Clock; log: Log }): AsyncDisposable {
  const { database, clock } = parts
  return startSweeps({
    ...parts,
    sweep: (mayGoOn) => forgetAnswers(database.queries, { recordedUntilMs: clock.now() - rememberedMs, mayGoOn }),
    everyMs: 60_000,
    what: 'old answers to requests with an Idempotency-Key',
  })
}

async function forgetAnswers(
  queries: Queries,
  { recordedUntilMs, mayGoOn }: { recordedUntilMs: number; mayGoOn: () => boolean },
): Promise<void> {
  while (mayGoOn()) {
    const { numDeletedRows } = await queries
      .deleteFrom('idempotent_answers')
      .where('id', 'in', (eb) =>
        eb
          .selectFrom('idempotent_answers')
          .select('id')
          .where('created_at', '<=', recordedUntilMs)
          .orderBy('created_at')
          .limit(forgottenAtOnce),
      )
      .executeTakeFirst()
    if (numDeletedRows < forgottenAtOnce) return
    await eventLoopTurn()
  }
}

function keyInUse(): ApiError {
  return new ApiError('CONFLICT', {
    message: 'This Idempotency-Key came with another request, or one that is under way.',
  })
}
