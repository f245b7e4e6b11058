import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionMessageToolCall,
} from 'openai/resources/chat/completions'
import type { Api, Frame } from './api.ts'
import { type Asked, type AskedTool, askedNothing, messagesText, outputSchema } from './asked.ts'
import { openaiFailure } from './errors.ts'
import { answerUsage, askedStreamUsage, chunkUsage, finishUsage, hasUsageChunk, openaiUsage } from './openai-usage.ts'
import { asList, asNumber, asRecord, asText } from './read-json.ts'
import { type Part, pieceAt, type Reply, replyText } from './reply.ts'

/** POST /v1/chat/completions. */
export const openaiChat: Api = {
  errorShape: 'openai',

  fault(body) {
    if (asText(body['model']) === '') return 'you must provide a model parameter'
    if (asList(body['messages']).length === 0) return "Missing required parameter: 'messages'."
    if (body['stream_options'] != null && body['stream'] !== true)
      return "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return null
  },

  read: (body) => ({
    ...askedNothing,
    model: asText(body['model']),
    prompt: messagesText(body['messages']),
    stream: body['stream'] === true,
    streamUsage: askedStreamUsage(body),
    outputTokensMax: asNumber(body['max_completion_tokens'] ?? body['max_tokens']),
    choices: asNumber(body['n']) ?? 1,
    tools: asList(body['tools']).map(readTool),
    toolChoice: readToolChoice(body['tool_choice']),
    continuesToolCall: asRecord(asList(body['messages']).at(-1))['role'] === 'tool',
    outputSchema: outputSchema(body['response_format']),
  }),

  answer: (reply): ChatCompletion => ({
    ...common(reply),
    object: 'chat.completion',
    choices: choiceIndexes(reply).map((index) => ({
      index,
      message: { role: 'assistant', ...said(reply, index), refusal: null, annotations: [] },
      logprobs: null,
      finish_reason: finishReason(reply),
    })),
    ...answerUsage(reply),
  }),

  stream: (reply) => ({
    opening: chunkFrames(reply, { role: 'assistant', content: speaks(reply) ? '' : null, refusal: null }, 0),
    chunk: (index) => pieceDeltas(reply, index).flatMap((delta) => chunkFrames(reply, delta, index + 1)),
    closing: () => [
      ...choiceIndexes(reply).map((index) =>
        frame({
          ...chunk(reply),
          choices: [{ index, delta: {}, logprobs: null, finish_reason: finishReason(reply) }],
          ...finishUsage(reply),
        }),
      ),
      ...(hasUsageChunk(reply) ? [frame({ ...chunk(reply), choices: [], usage: openaiUsage(reply) })] : []),
      { data: '[DONE]' },
    ],
    failure: openaiFailure,
  }),
}

type Delta = ChatCompletionChunk.Choice.Delta

function common(reply: Reply) {
  return {
    id: `chatcmpl-mock${String(reply.request.index).padStart(25, '0')}`,
    created: 1_768_478_400,
    model: reply.model,
    service_tier: 'default' as const,
    system_fingerprint: 'fp_mock000001',
  }
}

function chunk(reply: Reply): Omit<ChatCompletionChunk, 'choices'> {
  return { ...common(reply), object: 'chat.completion.chunk' }
}

function frame(data: ChatCompletionChunk): Frame {
  return { data }
}

/** The same delta for every choice, a frame each. */
function chunkFrames(reply: Reply, delta: Delta, chunks: number): Frame[] {
  return choiceIndexes(reply).map((index) =>
    frame({
      ...chunk(reply),
      choices: [{ index, delta, logprobs: null, finish_reason: null }],
      ...chunkUsage(reply, chunks),
    }),
  )
}

/** A tool call begins with a delta of its id and name; its arguments follow in pieces. */
function pieceDeltas(reply: Reply, chunkIndex: number): Delta[] {
  const { part, piece, first } = pieceAt(reply, chunkIndex)
  if (part.kind === 'text') return [{ content: piece }]
  const index = toolCalls(reply).indexOf(part)
  const start: Delta = {
    tool_calls: [{ index, id: callId(part, 0), type: 'function', function: { name: part.name, arguments: '' } }],
  }
  return [...(first ? [start] : []), { tool_calls: [{ index, function: { arguments: piece } }] }]
}

function said(reply: Reply, choice: number): { content: string | null; tool_calls?: ChatCompletionMessageToolCall[] } {
  const calls = toolCalls(reply)
  const content = speaks(reply) ? replyText(reply) : null
  if (calls.length === 0) return { content }
  return {
    content,
    tool_calls: calls.map((call) => ({
      id: callId(call, choice),
      type: 'function',
      function: { name: call.name, arguments: JSON.stringify(call.input) },
    })),
  }
}

/** Says something, be it before it calls a tool. */
function speaks(reply: Reply): boolean {
  return reply.parts.some((part) => part.kind === 'text')
}

function toolCalls(reply: Reply) {
  return reply.parts.filter((part) => part.kind === 'tool-call')
}

function callId(part: Extract<Part, { kind: 'tool-call' }>, choice: number): string {
  return `call_${part.id}${String(choice).padStart(8, '0')}`
}

function finishReason(reply: Reply): 'stop' | 'length' | 'tool_calls' {
  return reply.finish === 'tool-calls' ? 'tool_calls' : reply.finish
}

function choiceIndexes(reply: Reply): number[] {
  return Array.from({ length: reply.asked.choices }, (_, index) => index)
}

function readTool(tool: unknown): AskedTool {
  const { name, parameters } = asRecord(asRecord(tool)['function'])
  return { name: asText(name), inputSchema: asRecord(parameters) }
}

function readToolChoice(choice: unknown): Asked['toolChoice'] {
  if (choice === 'required' || choice === 'none') return choice
  const name = asText(asRecord(asRecord(choice)['function'])['name'])
  return name === '' ? 'auto' : { name }
}
