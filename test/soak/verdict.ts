import { isDeepStrictEqual } from 'node:util'
import { type Recorded, sumOf } from '../support/record-under-load.ts'
import { numberOf, tokensOf } from './requests.ts'
import type { Completed } from './traffic.ts'

/** A promise, and how often it was broken. */
export interface Finding {
  promise: string
  broken: number
}

/** What there was to be seen by the end of a soak. */
export interface Observed {
  /** The record, oldest first. */
  recorded: readonly Recorded[]
  completed: readonly Completed[]
  abandoned: readonly string[]
  /** Requests that may have been under way when the server was killed: no more than these may be without an event. */
  interruptedMax: number
  /** The idempotency keys that billing has. */
  taken: ReadonlySet<string>
  usage: readonly GroupUsage[]
}

/** What the day's counters of a group say, and the customers, by external id, that they are of. */
export interface GroupUsage {
  customers: readonly string[]
  counted: Record<string, number>
}

/** Holds what clients and billing saw against the record, and the counters against it. */
export function findings({ recorded, completed, abandoned, interruptedMax, taken, usage }: Observed): Finding[] {
  const byRequest = new Map(recorded.map((event) => [event.requestId, event]))
  const keys = new Set(recorded.map(({ idempotencyKey }) => idempotencyKey))
  const unrecorded = abandoned.filter((requestId) => !byRequest.has(requestId)).length
  const countIf = <Item>(items: readonly Item[], isBroken: (item: Item) => boolean) => items.filter(isBroken).length
  return [
    {
      promise: 'a completed response has its event, with the figures of upstream',
      broken: countIf(completed, (response) => !isRecorded(response, byRequest.get(response.requestId))),
    },
    {
      promise: 'an abandoned response has its event, unless the server was killed meanwhile',
      broken: Math.max(0, unrecorded - interruptedMax),
    },
    {
      promise: 'no request has two events, no idempotency key is used twice',
      broken: 2 * recorded.length - byRequest.size - keys.size,
    },
    {
      promise: 'sequences ascend without a gap',
      broken: countIf([...recorded.entries()], ([index, { sequence }]) => sequence !== index + 1),
    },
    {
      promise: 'billing has every event, and none that is not in the record',
      broken: keys.symmetricDifference(taken).size,
    },
    {
      promise: "the day's counters, of each customer and of all together, are the sum of the record",
      broken: countIf(usage, ({ customers, counted }) => {
        const below = new Set(customers)
        return !isDeepStrictEqual(counted, sumOf(recorded.filter((event) => below.has(event.externalEntityId))))
      }),
    },
    { promise: 'no minute has more requests of a customer than its limit', broken: excess(completed) },
  ]
}

function isRecorded({ number }: Completed, event: Recorded | undefined): boolean {
  if (event === undefined || event.outcome !== 'completed' || event.usageSource !== 'upstream') return false
  const { promptTokens, completionTokens } = tokensOf(number)
  const { inputTokens, outputTokens } = event.tokens
  return numberOf(event.requestMetadata) === number && inputTokens === promptTokens && outputTokens === completionTokens
}

const minuteMs = 60_000

/** How many requests of a customer were the first of a minute that certainly had more than its limit, in one life of the server. */
function excess(completed: readonly Completed[]): number {
  const inOneLife = completed.filter(({ lives: [first, last] }) => first === last)
  const apart = Map.groupBy(inOneLife, ({ customer, lives }) => `${customer.groupId} ${lives[0]}`)
  return [...apart.values()].reduce((sum, requests) => sum + excessOfOne(requests), 0)
}

function excessOfOne(requests: readonly Completed[]): number {
  const limit = requests[0]?.customer.requestsPerMinute ?? null
  if (limit === null) return 0
  return requests.filter(({ beganMs: fromMs }) => {
    const within = requests.filter(({ beganMs, endedMs }) => beganMs >= fromMs && endedMs <= fromMs + minuteMs)
    return within.length > limit
  }).length
}
