import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { type Customer, chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'
import { recordedEvents } from '../support/recorded-events.ts'

/** Streams that stop, stall or break off are in `test/contract/s11-streaming.test.ts`. */
describe('an upstream error inside a 200, or a stream that just stops, never counts as success', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
  })
  beforeEach(async () => {
    customer = await gateway.customer({ limits: [{ type: 'REQUEST', unit: 'DAY', threshold: 100 }] })
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  const answerWith = (body: object) => upstream.script({ trouble: { kind: 'error', status: 200, body } })
  const usage = () => gateway.manage<object>('GET', `/v1/gateway/groups/${customer.groupId}/usage`)
  const error = { message: 'out of memory at 10.0.0.7', type: 'internal', code: 500 }

  test('a 200 that holds nothing but an error is a 502, makes no event and gives back what it took', async () => {
    const before = await usage()
    answerWith({ error })
    const response = await gateway.infer(customer.key, chat())
    assert.equal(response.status, 502)
    assert.doesNotMatch(await response.text(), /10\.0\.0\.7/)
    assert.deepEqual(await recordedEvents(gateway, customer.prefix), [])
    assert.deepEqual(await usage(), before)
  })

  test('an answer with an error beside its usage is passed on and billed as one that upstream cut', async () => {
    const body = { id: 'resp', model: defaultSlug, error, usage: { input_tokens: 3, output_tokens: 4 } }
    answerWith(body)
    const response = await gateway.infer(customer.key, { model: defaultSlug, input: 'Hi' }, { path: '/v1/responses' })
    assert.deepEqual(await response.json(), body)
    const [event] = await recordedEvents(gateway, customer.prefix)
    assert.equal(event?.outcome, 'upstream_cut')
    assert.deepEqual(event?.tokens, { inputTokens: 3, outputTokens: 4, cachedInputTokens: 0 })
  })

  test('an error of null is none', async () => {
    answerWith({ error: null, choices: [], usage: { prompt_tokens: 3, completion_tokens: 4 } })
    assert.equal((await gateway.infer(customer.key, chat())).status, 200)
    assert.equal((await recordedEvents(gateway, customer.prefix))[0]?.outcome, 'completed')
  })
})
