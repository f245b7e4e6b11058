import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import OpenAI from 'openai'
import { systemClock } from '../../src/clock.ts'
import { type DemoModel, startDemoModel } from '../../src/demo/demo-model.ts'
import { ManualClock } from '../support/manual-clock.ts'

const question = { model: 'parrot-1', messages: [{ role: 'user' as const, content: 'What is a tollgate?' }] }

function clientOf({ baseUrl }: DemoModel): OpenAI {
  return new OpenAI({ apiKey: 'any', baseURL: baseUrl, maxRetries: 0 })
}

describe('the demo model', () => {
  let model: DemoModel
  let client: OpenAI

  before(async () => {
    model = await startDemoModel({ clock: systemClock, tokensPerSecond: 10_000 })
    client = clientOf(model)
  })
  after(() => model[Symbol.asyncDispose]())

  test('answers a chat with sentences about the prompt, the same each time, and counts tokens', async () => {
    const { choices, usage } = await client.chat.completions.create(question)
    const again = await client.chat.completions.create(question)
    assert.match(choices[0]?.message.content ?? '', /tollgate/i)
    assert.deepEqual(again.choices, choices)
    assert.equal(usage?.prompt_tokens, 5)
    assert.ok(usage.completion_tokens > 20)
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    const other = await client.chat.completions.create({ ...question, messages: [{ role: 'user', content: 'Hi' }] })
    assert.match(other.choices[0]?.message.content ?? '', /^Hello/)
  })

  test('streams the same answer a token a chunk, with usage at the end when asked', async () => {
    const whole = await client.chat.completions.create(question)
    const chunks = await Array.fromAsync(
      await client.chat.completions.create({ ...question, stream: true, stream_options: { include_usage: true } }),
    )
    const texts = chunks.flatMap(({ choices }) => choices[0]?.delta.content || [])
    assert.equal(texts.join(''), whole.choices[0]?.message.content)
    assert.equal(texts.length, whole.usage?.completion_tokens)
    assert.deepEqual(chunks.at(-1)?.choices, [])
    assert.deepEqual(chunks.at(-1)?.usage, whole.usage)
    assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop')

    const unasked = await Array.fromAsync(await client.chat.completions.create({ ...question, stream: true }))
    assert.ok(unasked.every((chunk) => !('usage' in chunk)))
  })

  test('ends at the declared maximum, and before a stop text', async () => {
    const short = await client.chat.completions.create({ ...question, max_completion_tokens: 3 })
    assert.deepEqual([short.usage?.completion_tokens, short.choices[0]?.finish_reason], [3, 'length'])
    const stopped = await client.chat.completions.create({ ...question, stop: ['.'] })
    assert.doesNotMatch(stopped.choices[0]?.message.content ?? '', /\./)
    assert.equal(stopped.choices[0]?.finish_reason, 'stop')
  })

  test('completes a text, in one piece and in a stream', async () => {
    const body = { model: 'parrot-1', prompt: 'Why do roads end?' }
    const whole = await client.completions.create(body)
    assert.deepEqual([whole.usage?.completion_tokens, whole.choices[0]?.finish_reason], [16, 'length'])
    const chunks = await Array.fromAsync(await client.completions.create({ ...body, stream: true }))
    assert.equal(chunks.map(({ choices }) => choices[0]?.text).join(''), whole.choices[0]?.text)
  })

  test('embeds texts so that those with common words are near each other', async () => {
    const input = ['the bridge over the river', 'a bridge over a river', 'quarterly sales figures']
    const { data, usage } = await client.embeddings.create({ model: 'parrot-1', input })
    const vectors = data.map(({ embedding }) => embedding)
    const similarity = (left = 0, right = 0) =>
      vectors[left]?.reduce((sum, value, index) => sum + value * (vectors[right]?.[index] ?? 0), 0) ?? 0
    assert.ok(similarity(0, 1) > similarity(0, 2) + 0.3)
    assert.ok(Math.abs(similarity(2, 2) - 1) < 1e-5)
    assert.equal(usage.prompt_tokens, 13)
    const plain = await client.embeddings.create({ model: 'parrot-1', input, encoding_format: 'float' })
    assert.deepEqual(
      plain.data[0]?.embedding.map((value) => Math.fround(value)),
      vectors[0],
    )
  })

  test('lists its model', async () => {
    const models = await Array.fromAsync(await client.models.list())
    assert.deepEqual(
      models.map(({ id }) => id),
      ['parrot-1'],
    )
  })

  test('refuses what it cannot do or read, in the shape of the API', async () => {
    const refused = async (extra: object, pattern: RegExp) => {
      const answering = client.chat.completions.create({ ...question, ...extra })
      await assert.rejects(answering, (error) => error instanceof OpenAI.BadRequestError && pattern.test(error.message))
    }
    await refused({ n: 2 }, /one answer/)
    await refused({ tool_choice: 'required' }, /no tools/)
    await refused({ response_format: { type: 'json_object' } }, /plain text/)
    await refused({ messages: 'hello' }, /expected array/)
    const huge = { ...question, messages: [{ role: 'user' as const, content: 'x'.repeat(5_000_000) }] }
    await assert.rejects(client.chat.completions.create(huge), /413.*larger than/)
    await assert.rejects(client.images.generate({ prompt: 'x' }), OpenAI.NotFoundError)
    const garbage = await fetch(`${model.baseUrl}/embeddings`, { method: 'POST', body: '{"model"' })
    assert.equal(garbage.status, 400)
  })
})

test('the demo model writes at its pace and stops when the client goes away', { timeout: 10_000 }, async ({
  signal,
}) => {
  const clock = new ManualClock()
  await using model = await startDemoModel({ clock, tokensPerSecond: 4 })
  const stream = await clientOf(model).chat.completions.create({ ...question, stream: true })
  const chunks = stream[Symbol.asyncIterator]()
  assert.equal((await chunks.next()).value?.choices[0]?.delta.role, 'assistant')

  await until(() => clock.nextTimerMs() === 250, signal)
  clock.advance(250)
  assert.notEqual((await chunks.next()).value?.choices[0]?.delta.content, '')

  await until(() => clock.nextTimerMs() === 250, signal)
  stream.controller.abort()
  await until(() => clock.nextTimerMs() === null, signal)
})

async function until(condition: () => boolean, signal: AbortSignal): Promise<void> {
  while (!condition() && !signal.aborted) await new Promise(setImmediate)
}
