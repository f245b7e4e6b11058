import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import OpenAI from 'openai'
import type { ChatCompletionTool } from 'openai/resources/chat/completions'
import type { ResponseStreamEvent } from 'openai/resources/responses/responses'
import { type MockUpstream, startMockUpstream } from './mock-upstream.ts'

const weather: ChatCompletionTool = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
  },
}
const question = { model: 'm', messages: [{ role: 'user' as const, content: 'how are you' }] }

describe('the mock upstream as the OpenAI client sees it', () => {
  let upstream: MockUpstream
  let client: OpenAI

  before(async () => {
    upstream = await startMockUpstream()
    client = new OpenAI({ apiKey: 'sk-test', baseURL: upstream.baseUrl, maxRetries: 0 })
  })
  after(() => upstream[Symbol.asyncDispose]())

  test('a chat completion has text, a finish reason and the usage that the script sets', async () => {
    upstream.script({ text: 'I am well.', promptTokens: 11, cachedTokens: 4, completionTokens: 7, reasoningTokens: 2 })
    const completion = await client.chat.completions.create(question)
    assert.equal(completion.object, 'chat.completion')
    assert.equal(completion.model, 'm')
    assert.deepEqual(completion.choices[0]?.message, {
      role: 'assistant',
      content: 'I am well.',
      refusal: null,
      annotations: [],
    })
    assert.equal(completion.choices[0]?.finish_reason, 'stop')
    const { usage } = completion
    assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens, usage?.total_tokens], [11, 7, 18])
    assert.equal(usage?.prompt_tokens_details?.cached_tokens, 4)
    assert.equal(usage?.completion_tokens_details?.reasoning_tokens, 2)
  })

  test('without a script, a word is a token and a declared maximum cuts the answer', async () => {
    upstream.script({})
    const whole = await client.chat.completions.create(question)
    assert.equal(whole.usage?.prompt_tokens, 3)
    assert.equal(whole.usage?.completion_tokens, whole.choices[0]?.message.content?.split(' ').length)
    assert.deepEqual((await client.chat.completions.create(question)).choices, whole.choices)

    const short = await client.chat.completions.create({ ...question, max_completion_tokens: 2 })
    assert.equal(short.usage?.completion_tokens, 2)
    assert.equal(short.choices[0]?.finish_reason, 'length')
  })

  test('a chat stream begins with the role, has a chunk a word, and ends with the finish reason', async () => {
    upstream.script({ text: 'one two three' })
    const chunks = await Array.fromAsync(await client.chat.completions.create({ ...question, stream: true }))
    assert.deepEqual(
      chunks.map(({ choices }) => choices[0]?.delta),
      [
        { role: 'assistant', content: '', refusal: null },
        { content: 'one ' },
        { content: 'two ' },
        { content: 'three' },
        {},
      ],
    )
    assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop')
    assert.ok(chunks.every((chunk) => chunk.id === chunks[0]?.id && !('usage' in chunk)))
  })

  test('a chat stream reports usage in a chunk without choices, only when asked, and null before it', async () => {
    upstream.script({ text: 'one two', promptTokens: 5, completionTokens: 8 })
    const chunks = await Array.fromAsync(
      await client.chat.completions.create({ ...question, stream: true, stream_options: { include_usage: true } }),
    )
    assert.deepEqual(
      chunks.map(({ usage }) => usage?.completion_tokens ?? usage),
      [null, null, null, null, 8],
    )
    assert.deepEqual(chunks.at(-1)?.choices, [])
  })

  test('a stream reports usage in every chunk, with the finish reason, as zero, unasked or never, as scripted', async () => {
    const reported = async (usage: 'every-chunk' | 'with-finish' | 'zero' | 'always' | 'never') => {
      upstream.script({ text: 'one two', promptTokens: 5, completionTokens: 8, usage })
      const options = usage === 'always' ? {} : { stream_options: { include_usage: true } }
      const stream = await client.chat.completions.create({ ...question, stream: true, ...options })
      return (await Array.fromAsync(stream)).map((chunk) => chunk.usage?.completion_tokens ?? chunk.usage)
    }
    assert.deepEqual(await reported('every-chunk'), [0, 4, 8, 8, 8])
    assert.deepEqual(await reported('with-finish'), [null, null, null, 8])
    assert.deepEqual(await reported('zero'), [null, null, null, null, 0])
    assert.deepEqual(await reported('always'), [undefined, undefined, undefined, undefined, 8])
    assert.deepEqual(await reported('never'), [undefined, undefined, undefined, undefined])
  })

  test('a chat completion calls the tool that it must, or that the prompt names, until it has the result', async () => {
    upstream.script({})
    const required = await client.chat.completions.create({ ...question, tools: [weather], tool_choice: 'required' })
    const call = required.choices[0]?.message.tool_calls?.[0]
    assert.equal(required.choices[0]?.finish_reason, 'tool_calls')
    assert.ok(call?.type === 'function')
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'word', days: 1 })

    const idle = await client.chat.completions.create({ ...question, tools: [weather] })
    assert.equal(idle.choices[0]?.message.tool_calls, undefined)

    const runner = client.chat.completions.runTools({
      model: 'm',
      messages: [{ role: 'user', content: 'please call get_weather' }],
      tools: [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            description: 'The weather in a city.',
            parameters: weather.function.parameters ?? {},
            parse: JSON.parse,
            function: () => 'sunny',
          },
        },
      ],
    })
    assert.match((await runner.finalContent()) ?? '', /\w/)
  })

  test('a chat stream calls several tools in deltas that the client joins', async () => {
    const toolCalls = [
      { name: 'get_weather', input: { city: 'Paris', days: 3 } },
      { name: 'get_time', input: { zone: 'CET' } },
    ]
    upstream.script({ text: 'Let me look.', toolCalls })
    const { choices } = await client.chat.completions.stream({ ...question, tools: [weather] }).finalChatCompletion()
    assert.equal(choices[0]?.message.content, 'Let me look.')
    assert.deepEqual(
      choices[0]?.message.tool_calls?.map((call) => 'function' in call && JSON.parse(call.function.arguments)),
      toolCalls.map(({ input }) => input),
    )
    assert.equal(new Set(choices[0]?.message.tool_calls?.map(({ id }) => id)).size, 2)
  })

  test('structured output fits its schema, in one piece and in a stream', async () => {
    upstream.script({})
    const schema = {
      type: 'object',
      properties: { name: { type: 'string' }, tags: { type: 'array', items: { enum: ['red', 'blue'] } } },
    }
    const format = { type: 'json_schema' as const, json_schema: { name: 'thing', schema } }
    const whole = await client.chat.completions.create({ ...question, response_format: format })
    const streamed = await client.chat.completions.stream({ ...question, response_format: format }).finalContent()
    assert.deepEqual(JSON.parse(whole.choices[0]?.message.content ?? ''), { name: 'word', tags: ['red'] })
    assert.equal(streamed, whole.choices[0]?.message.content)
  })

  test('several choices are answered side by side, and their tokens add up', async () => {
    upstream.script({ text: 'one two' })
    const whole = await client.chat.completions.create({ ...question, n: 3 })
    assert.deepEqual(
      whole.choices.map(({ index }) => index),
      [0, 1, 2],
    )
    assert.equal(whole.usage?.completion_tokens, 6)
    const streamed = await client.chat.completions.stream({ ...question, n: 2 }).finalChatCompletion()
    assert.deepEqual(
      streamed.choices.map(({ message }) => message.content),
      ['one two', 'one two'],
    )
  })

  test('completions answer each prompt, in one piece and in a stream', async () => {
    upstream.script({ text: 'one two' })
    const whole = await client.completions.create({ model: 'm', prompt: ['a b', 'c'] })
    assert.deepEqual([whole.object, whole.choices.length, whole.usage?.prompt_tokens], ['text_completion', 2, 3])
    const stream = await client.completions.create({
      model: 'm',
      prompt: 'a',
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = await Array.fromAsync(stream)
    assert.equal(chunks.map(({ choices }) => choices[0]?.text ?? '').join(''), 'one two')
    assert.equal(chunks.at(-1)?.usage?.total_tokens, 3)
  })

  test('embeddings are the same vectors as numbers and as base64', async () => {
    upstream.script({})
    const body = { model: 'm', input: ['first text', 'second'], dimensions: 4 }
    const numbers = await client.embeddings.create({ ...body, encoding_format: 'float' })
    const decoded = await client.embeddings.create(body)
    assert.equal(upstream.requests.at(-1)?.body['encoding_format'], 'base64')
    assert.deepEqual(decoded.data, numbers.data)
    assert.equal(numbers.data[1]?.embedding.length, 4)
    assert.notDeepEqual(numbers.data[0]?.embedding, numbers.data[1]?.embedding)
    assert.deepEqual(numbers.usage, { prompt_tokens: 3, total_tokens: 3 })
    assert.equal(upstream.requests.at(-1)?.producedTokens, 0)
  })

  test('models are listed', async () => {
    const models = await Array.fromAsync(await client.models.list())
    assert.deepEqual(
      models.map(({ id, object }) => [id, object]),
      [
        ['mock-model-large', 'model'],
        ['mock-model-small', 'model'],
      ],
    )
  })

  test('a response has output text and usage in the form of the Responses API', async () => {
    upstream.script({ text: 'I am well.', promptTokens: 11, cachedTokens: 4 })
    const response = await client.responses.create({ model: 'm', input: 'how are you' })
    assert.equal(response.output_text, 'I am well.')
    assert.equal(response.status, 'completed')
    assert.equal(response.usage?.input_tokens_details.cached_tokens, 4)
    assert.deepEqual([response.usage?.input_tokens, response.usage?.output_tokens], [11, 3])
    const short = await client.responses.create({ model: 'm', input: 'how', max_output_tokens: 1 })
    assert.deepEqual([short.status, short.incomplete_details?.reason], ['incomplete', 'max_output_tokens'])
  })

  test('a response stream numbers its events, and its last one has output and usage', async () => {
    upstream.script({ text: 'one two' })
    const events = await Array.fromAsync(await client.responses.create({ model: 'm', input: 'hi', stream: true }))
    assert.deepEqual(
      events.map(({ sequence_number }: ResponseStreamEvent) => sequence_number),
      events.map((_, index) => index),
    )
    assert.deepEqual(
      events.map(({ type }: ResponseStreamEvent) => type.replace('response.', '')),
      [
        ...['created', 'in_progress', 'output_item.added', 'content_part.added'],
        ...['output_text.delta', 'output_text.delta'],
        ...['output_text.done', 'content_part.done', 'output_item.done', 'completed'],
      ],
    )
    const last = events.at(-1)
    assert.ok(last?.type === 'response.completed')
    assert.equal(last.response.usage?.output_tokens, 2)
  })

  test('a response stream calls a function that the client joins', async () => {
    upstream.script({})
    const response = await client.responses
      .stream({
        model: 'm',
        input: 'hi',
        tools: [{ type: 'function', name: 'get_weather', strict: false, parameters: { type: 'object' } }],
        tool_choice: 'required',
      })
      .finalResponse()
    assert.ok(response.output[0]?.type === 'function_call')
    assert.deepEqual([response.output[0].name, response.output[0].arguments], ['get_weather', '{}'])
  })

  test('a body that the real server refuses is refused', async () => {
    upstream.script({})
    const refusal = client.chat.completions.create({ ...question, stream_options: { include_usage: true } })
    await assert.rejects(
      refusal,
      (error) => error instanceof OpenAI.BadRequestError && /stream_options/.test(`${error}`),
    )
    await assert.rejects(client.images.generate({ prompt: 'x' }), OpenAI.NotFoundError)
  })
})
