import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Recorded } from '../support/record-under-load.ts'
import { tokensOf } from './requests.ts'
import type { Completed } from './traffic.ts'
import { findings, type Observed } from './verdict.ts'

const customer = {
  groupId: 'g1',
  entityId: 'c1',
  key: 'tk_1.secret',
  keyPrefix: 'tk_1',
  formerKeyPrefix: null,
  requestsPerMinute: 3,
}
const abandonedNumber = 20

function event(number: number, sequence: number): Recorded {
  const { promptTokens: inputTokens, completionTokens: outputTokens } = tokensOf(number)
  return {
    requestId: `request-${number}`,
    requestMetadata: { number: String(number) },
    externalEntityId: customer.entityId,
    idempotencyKey: `key-${number}`,
    sequence,
    outcome: number === abandonedNumber ? 'client_closed' : 'completed',
    usageSource: 'upstream',
    tokens: { inputTokens, outputTokens },
  }
}

function response(number: number): Completed {
  const beganMs = number * 1_000
  return { requestId: `request-${number}`, number, customer, lives: [1, 1], beganMs, endedMs: beganMs + 10 }
}

const first = event(1, 1)
const second = event(2, 2)
const last = event(abandonedNumber, 3)
const recorded = [first, second, last]
const sums = { REQUEST: 3, TOKEN: 8 + 10 + 29 }

/** Two responses completed and one was abandoned, and every promise held. */
const flawless: Observed = {
  recorded,
  completed: [response(1), response(2)],
  abandoned: [last.requestId],
  interruptedMax: 0,
  taken: new Set(recorded.map(({ idempotencyKey }) => idempotencyKey)),
  usage: [{ customers: [customer.entityId], counted: sums }],
}

const brokenPromises = (observed: Observed) =>
  findings(observed)
    .filter(({ broken }) => broken > 0)
    .map(({ promise }) => promise.split(' ').slice(0, 3).join(' '))

test('a soak in which all went well breaks no promise', () => {
  assert.deepEqual(brokenPromises(flawless), [])
})

const disasters: Record<string, [observed: Partial<Observed>, promises: string[]]> = {
  'an event is lost': [
    { recorded: [first, { ...last, sequence: 2 }] },
    ['a completed response', 'billing has every', "the day's counters,"],
  ],
  "an event has other figures than upstream's": [
    { recorded: [{ ...first, tokens: { inputTokens: 1, outputTokens: 1 } }, second, last] },
    ['a completed response', "the day's counters,"],
  ],
  'a completed response is recorded as abandoned': [
    { recorded: [{ ...first, outcome: 'client_closed' }, second, last] },
    ['a completed response'],
  ],
  'a completed response has an estimate': [
    { recorded: [{ ...first, usageSource: 'estimated' }, second, last] },
    ['a completed response'],
  ],
  "an event has another request's metadata": [
    { recorded: [{ ...first, requestMetadata: { number: '2' } }, second, last] },
    ['a completed response'],
  ],
  'an abandoned response has no event': [{ abandoned: ['request-40'] }, ['an abandoned response']],
  'a request has two events': [
    { recorded: [...recorded, { ...last, idempotencyKey: 'key-21', sequence: 4 }] },
    ['no request has', 'billing has every', "the day's counters,"],
  ],
  'an idempotency key is used twice': [
    { recorded: [first, { ...second, idempotencyKey: first.idempotencyKey }, last] },
    ['no request has', 'billing has every'],
  ],
  'a sequence is left out': [{ recorded: [first, second, { ...last, sequence: 4 }] }, ['sequences ascend without']],
  'billing lacks an event': [{ taken: new Set(['key-1', 'key-2']) }, ['billing has every']],
  'billing has an event too many': [{ taken: new Set([...flawless.taken, 'key-3']) }, ['billing has every']],
  'a counter is off by one': [
    { usage: [{ customers: [customer.entityId], counted: { ...sums, REQUEST: 4 } }] },
    ["the day's counters,"],
  ],
}
for (const [disaster, [observed, promises]] of Object.entries(disasters)) {
  test(`a soak in which ${disaster} says so`, () => {
    assert.deepEqual(brokenPromises({ ...flawless, ...observed }), promises)
  })
}

test('an abandoned response without an event is excused where the server was killed', () => {
  assert.deepEqual(brokenPromises({ ...flawless, abandoned: ['request-40'], interruptedMax: 1 }), [])
})

test('a request over the limit within a minute is found; one of another life of the server is none', () => {
  const fourWithinAMinute = (last: Partial<Completed>) => {
    const completed = [1, 2, 3].map((number) => response(number))
    const fourth: Completed = { ...response(4), ...last }
    const events = [1, 2, 3, 4].map((number) => event(number, number))
    return brokenPromises({
      ...flawless,
      recorded: events,
      completed: [...completed, fourth],
      abandoned: [],
      taken: new Set(events.map(({ idempotencyKey }) => idempotencyKey)),
      usage: [],
    })
  }
  assert.deepEqual(fourWithinAMinute({}), ['no minute has'])
  assert.deepEqual(fourWithinAMinute({ lives: [2, 2] }), [])
  assert.deepEqual(fourWithinAMinute({ endedMs: 1_000 + 60_001 }), [])
})
