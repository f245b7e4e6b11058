import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import OpenAI from 'openai'
import { type Customer, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

/** Contract §11, through the client that customers have. */
describe('the unchanged OpenAI client', () => {
  let upstream: MockUpstream
  let gateway: Gateway
  let customer: Customer
  let client: OpenAI

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl, 'upstream-name')
    customer = await gateway.customer({})
    client = new OpenAI({ baseURL: `${gateway.inference}/v1`, apiKey: customer.key, maxRetries: 0 })
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  test('chats', async () => {
    upstream.script({ text: 'Hello to you', promptTokens: 7, completionTokens: 3 })
    const completion = await client.chat.completions.create({
      model: defaultSlug,
      messages: [{ role: 'user', content: 'Hello, world!' }],
    })
    assert.equal(completion.choices[0]?.message.content, 'Hello to you')
    assert.equal(completion.model, defaultSlug)
    assert.equal(completion.usage?.total_tokens, 10)
    assert.equal(upstream.requests.at(-1)?.model, 'upstream-name')
  })

  test('streams, every chunk under the slug and none with a usage that was not asked for', async () => {
    upstream.script({ text: 'one two three four', promptTokens: 5, completionTokens: 4 })
    const stream = await client.chat.completions.create({
      model: defaultSlug,
      messages: [{ role: 'user', content: 'Count' }],
      stream: true,
    })
    const chunks = await Array.fromAsync(stream)
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'one two three four')
    assert.deepEqual(new Set(chunks.map(({ model }) => model)), new Set([defaultSlug]))
    assert.ok(chunks.every((chunk) => chunk.choices.length > 0 && !chunk.usage))
    assert.deepEqual(upstream.requests.at(-1)?.body['stream_options'], { include_usage: true })
  })

  test('sees the usage chunk of a stream that asked for it', async () => {
    upstream.script({ text: 'one two', promptTokens: 5, completionTokens: 2 })
    const stream = await client.chat.completions.create({
      model: defaultSlug,
      messages: [{ role: 'user', content: 'Count' }],
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = await Array.fromAsync(stream)
    assert.deepEqual(chunks.at(-1)?.choices, [])
    assert.equal(chunks.at(-1)?.usage?.completion_tokens, 2)
  })

  test('calls tools, streamed too', async () => {
    upstream.script({ toolCalls: [{ name: 'weather', input: { city: 'Oslo' } }] })
    const request = {
      model: defaultSlug,
      messages: [{ role: 'user' as const, content: 'Weather?' }],
      tools: [
        {
          type: 'function' as const,
          function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
        },
      ],
    }
    const completion = await client.chat.completions.create(request)
    const [call] = completion.choices[0]?.message.tool_calls ?? []
    assert.equal(call?.type === 'function' && call.function.arguments, '{"city":"Oslo"}')

    const chunks = await Array.fromAsync(await client.chat.completions.create({ ...request, stream: true }))
    const streamed = chunks.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? [])
    assert.equal(streamed.map((delta) => delta.function?.arguments ?? '').join(''), '{"city":"Oslo"}')
  })

  test('gets structured output', async () => {
    upstream.script({})
    const completion = await client.chat.completions.create({
      model: defaultSlug,
      messages: [{ role: 'user', content: 'A city, please' }],
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'city',
          strict: true,
          schema: {
            type: 'object',
            properties: { name: { type: 'string' } },
            required: ['name'],
            additionalProperties: false,
          },
        },
      },
    })
    const parsed: unknown = JSON.parse(completion.choices[0]?.message.content ?? '')
    assert.ok(typeof parsed === 'object' && parsed !== null && 'name' in parsed)
    assert.deepEqual(Object.keys(upstream.requests.at(-1)?.body ?? {}), ['model', 'messages', 'response_format'])
  })

  test('embeds, as numbers and in base64', async () => {
    upstream.script({ promptTokens: 4 })
    for (const encoding_format of ['float', 'base64'] as const) {
      const answer = await client.embeddings.create({ model: defaultSlug, input: ['one', 'two'], encoding_format })
      assert.equal(answer.data.length, 2)
      assert.equal(answer.model, defaultSlug)
      assert.equal(answer.usage.prompt_tokens, 4)
    }
  })

  test('completes a text', async () => {
    upstream.script({ text: 'upon a time' })
    const completion = await client.completions.create({ model: defaultSlug, prompt: 'Once' })
    assert.equal(completion.choices[0]?.text, 'upon a time')
    assert.equal(completion.model, defaultSlug)
  })

  test('gets a response of the Responses API, in one piece and streamed', async () => {
    upstream.script({ text: 'four words are enough', promptTokens: 6, completionTokens: 4 })
    const response = await client.responses.create({ model: defaultSlug, input: 'Speak' })
    assert.equal(response.output_text, 'four words are enough')
    assert.equal(response.model, defaultSlug)

    const events = await Array.fromAsync(
      await client.responses.create({ model: defaultSlug, input: 'Speak', stream: true }),
    )
    const completed = events.find((event) => event.type === 'response.completed')
    assert.equal(completed?.response.model, defaultSlug)
    assert.equal(completed?.response.usage?.output_tokens, 4)
  })

  test('lists the models that its key may call', async () => {
    const models = await Array.fromAsync(await client.models.list())
    assert.deepEqual(
      models.map(({ id }) => id),
      [defaultSlug],
    )
  })

  test('is told which model it may not call', async () => {
    await assert.rejects(
      client.chat.completions.create({ model: 'acme/other', messages: [{ role: 'user', content: 'Hi' }] }),
      (error: unknown) =>
        error instanceof OpenAI.NotFoundError &&
        error.code === 'model_not_found' &&
        error.message.includes('acme/other'),
    )
  })

  test('is told that its key is not valid', async () => {
    const stranger = new OpenAI({ baseURL: `${gateway.inference}/v1`, apiKey: 'tk_x.unknown', maxRetries: 0 })
    await assert.rejects(
      stranger.models.list(),
      (error: unknown) => error instanceof OpenAI.AuthenticationError && error.code === 'invalid_api_key',
    )
  })
})
