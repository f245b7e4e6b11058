import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { type MockUpstream, startMockUpstream } from '../mock-upstream.ts'

const tool: Anthropic.Tool = {
  name: 'get_weather',
  input_schema: { type: 'object', properties: { city: { type: 'string' } } },
}
const question = { model: 'm', max_tokens: 100, messages: [{ role: 'user' as const, content: 'how are you' }] }

describe('the mock upstream as the Anthropic client sees it', () => {
  let upstream: MockUpstream
  let client: Anthropic

  before(async () => {
    upstream = await startMockUpstream()
    client = new Anthropic({ apiKey: 'sk-ant-test', baseURL: upstream.origin, maxRetries: 0 })
  })
  after(() => upstream[Symbol.asyncDispose]())

  test('a message has text, a stop reason and usage whose input tokens leave out the cached ones', async () => {
    upstream.script({
      text: 'I am well.',
      promptTokens: 20,
      cachedTokens: 12,
      cacheWriteTokens: 3,
      completionTokens: 7,
    })
    const message = await client.messages.create(question)
    assert.deepEqual(message.content, [{ type: 'text', text: 'I am well.' }])
    assert.deepEqual([message.type, message.model, message.stop_reason], ['message', 'm', 'end_turn'])
    const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens } = message.usage
    assert.deepEqual([input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens], [5, 12, 3, 7])
  })

  test('a message stream has the events of the real server in their order', async () => {
    upstream.script({ text: 'one two', promptTokens: 4, completionTokens: 6 })
    const response = await client.messages.create({ ...question, stream: true }).asResponse()
    const text = await response.text()
    assert.deepEqual(
      [...text.matchAll(/^event: (.*)$/gm)].map((match) => match[1]),
      [
        ...['message_start', 'content_block_start', 'ping', 'content_block_delta', 'content_block_delta'],
        ...['content_block_stop', 'message_delta', 'message_stop'],
      ],
    )
    const message = await client.messages.stream(question).finalMessage()
    assert.deepEqual(message.content, [{ type: 'text', text: 'one two' }])
    assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [4, 6])
  })

  test('a message stream speaks, then uses tools whose input the client joins', async () => {
    upstream.script({ text: 'Let me look.', toolCalls: [{ name: 'get_weather', input: { city: 'Paris' } }] })
    const message = await client.messages.stream({ ...question, tools: [tool] }).finalMessage()
    assert.equal(message.stop_reason, 'tool_use')
    assert.deepEqual(
      message.content.map((block) => (block.type === 'tool_use' ? block.input : block.type)),
      ['text', { city: 'Paris' }],
    )
  })

  test('a message uses the tool that it must, until it has the result', async () => {
    upstream.script({})
    const first = await client.messages.create({ ...question, tools: [tool], tool_choice: { type: 'any' } })
    const [use] = first.content
    assert.ok(use?.type === 'tool_use')
    assert.deepEqual(use.input, { city: 'word' })
    const second = await client.messages.create({
      ...question,
      tools: [tool],
      tool_choice: { type: 'any' },
      messages: [
        ...question.messages,
        { role: 'assistant', content: [{ type: 'tool_use', id: use.id, name: use.name, input: use.input }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'sunny' }] },
      ],
    })
    assert.equal(second.stop_reason, 'end_turn')
  })

  test('a declared maximum cuts a message, and structured output fits its schema', async () => {
    upstream.script({})
    const short = await client.messages.create({ ...question, max_tokens: 2 })
    assert.deepEqual([short.stop_reason, short.usage.output_tokens], ['max_tokens', 2])
    const schema = { type: 'object', properties: { ok: { type: 'boolean' } } }
    const structured = await client.messages.create({
      ...question,
      output_config: { format: { type: 'json_schema', schema } },
    })
    assert.deepEqual(structured.content, [{ type: 'text', text: '{"ok":true}' }])
  })

  test('errors have the shape of the Anthropic API, before a stream and within it', async () => {
    upstream.script({ trouble: { kind: 'error', status: 529 } })
    await assert.rejects(client.messages.create(question), (error) => {
      assert.ok(error instanceof Anthropic.APIError)
      assert.deepEqual([error.status, error.type], [529, 'overloaded_error'])
      return true
    })
    upstream.script({ text: 'one two', trouble: { kind: 'error-frame', afterChunks: 1, message: 'too busy' } })
    await assert.rejects(client.messages.stream(question).finalMessage(), /overloaded_error.*too busy/)
  })

  test('a body that the real server refuses is refused, and models have the form of the Anthropic API', async () => {
    upstream.script({})
    const response = await fetch(`${upstream.baseUrl}/messages`, {
      method: 'POST',
      body: JSON.stringify({ model: 'm', max_tokens: 1, messages: [{ role: 'system', content: 'x' }] }),
    })
    assert.equal(response.status, 400)
    const models = await Array.fromAsync(await client.models.list())
    assert.deepEqual(
      models.map(({ type, id }) => [type, id]),
      [
        ['model', 'mock-model-large'],
        ['model', 'mock-model-small'],
      ],
    )
  })
})
