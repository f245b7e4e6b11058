import type {
  Message,
  RawContentBlockDelta,
  StopReason,
  TextBlock,
  ToolUseBlock,
  Usage,
} from '@anthropic-ai/sdk/resources/messages'
import type { Api, Frame, StreamFrames } from './api.ts'
import { type Asked, type AskedTool, askedNothing, contentText, messagesText, outputSchema } from './asked.ts'
import { anthropicFailure } from './errors.ts'
import { asList, asNumber, asRecord, asText } from './read-json.ts'
import { type Part, pieceAt, type Reply, reportedTokens } from './reply.ts'

/** POST /v1/messages, as Anthropic serves it. Its input tokens leave out what came from the cache or went into it. */
export const anthropicMessages: Api = {
  errorShape: 'anthropic',

  fault(body) {
    if (asText(body['model']) === '') return 'model: Field required'
    if (asNumber(body['max_tokens']) === null) return 'max_tokens: Field required'
    if (asList(body['messages']).length === 0) return 'messages: at least one message is required'
    const roles = asList(body['messages']).map((message) => asText(asRecord(message)['role']))
    const stranger = roles.find((role) => role !== 'user' && role !== 'assistant')
    return stranger === undefined
      ? null
      : `messages: Unexpected role "${stranger}". Allowed roles are "user" or "assistant".`
  },

  read: (body) => ({
    ...askedNothing,
    choices: 1,
    model: asText(body['model']),
    prompt: [contentText(body['system']), messagesText(body['messages'])].join('\n').trim(),
    stream: body['stream'] === true,
    streamUsage: 'at-end',
    outputTokensMax: asNumber(body['max_tokens']),
    tools: asList(body['tools']).map(readTool),
    toolChoice: readToolChoice(body['tool_choice']),
    continuesToolCall: asList(asRecord(asList(body['messages']).at(-1))['content']).some(
      (part) => asRecord(part)['type'] === 'tool_result',
    ),
    outputSchema: outputSchema(asRecord(body['output_config'])['format']),
  }),

  answer: (reply) => ({
    ...message(reply),
    content: reply.parts.map(block),
    stop_reason: stopReason(reply),
    ...reportedUsage(reply, reportedTokens(reply).completion),
  }),

  stream: (reply) => streamFrames(reply),
}

/** Members that the server leaves out of an answer that has nothing to say there. */
type WireMessage = Omit<Message, 'container' | 'diagnostics' | 'content' | 'usage'> & { content: WireBlock[] }
type WireBlock = Omit<TextBlock, 'citations'> | Omit<ToolUseBlock, 'caller'>
type WireUsage = Omit<Usage, 'inference_geo' | 'output_tokens_details' | 'server_tool_use' | 'speed'>

function streamFrames(reply: Reply): StreamFrames {
  const lastPart = reply.parts.length - 1
  return {
    opening: [
      frame('message_start', { message: { ...message(reply), ...reportedUsage(reply, startTokens(reply)) } }),
      ...(reply.chunkCount === 0 ? [] : [blockStart(reply.parts[0], 0), frame('ping', {})]),
    ],
    chunk(index) {
      const { part, partIndex, piece, first } = pieceAt(reply, index)
      return [
        ...(first && partIndex > 0 ? [blockStop(partIndex - 1), blockStart(part, partIndex)] : []),
        frame('content_block_delta', { index: partIndex, delta: delta(part, piece) }),
      ]
    },
    closing: () => [
      ...(reply.chunkCount === 0 ? [] : [blockStop(lastPart)]),
      frame('message_delta', {
        delta: { stop_reason: stopReason(reply), stop_sequence: null },
        ...reportedUsage(reply, reportedTokens(reply).completion),
      }),
      frame('message_stop', {}),
    ],
    failure: anthropicFailure,
  }
}

function frame(type: string, members: object): Frame {
  return { event: type, data: { type, ...members } }
}

function blockStart(part: Part | undefined, index: number): Frame {
  const empty = part?.kind === 'tool-call' ? { ...block(part), input: {} } : { type: 'text', text: '' }
  return frame('content_block_start', { index, content_block: empty })
}

function blockStop(index: number): Frame {
  return frame('content_block_stop', { index })
}

function delta(part: Part, piece: string): RawContentBlockDelta {
  return part.kind === 'text' ? { type: 'text_delta', text: piece } : { type: 'input_json_delta', partial_json: piece }
}

function message(reply: Reply): WireMessage {
  return {
    id: `msg_01mock${String(reply.request.index).padStart(18, '0')}`,
    type: 'message',
    role: 'assistant',
    model: reply.model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    stop_details: null,
  }
}

function block(part: Part): WireBlock {
  return part.kind === 'text'
    ? { type: 'text', text: part.text }
    : { type: 'tool_use', id: `toolu_01${part.id}`, name: part.name, input: part.input }
}

function reportedUsage(reply: Reply, outputTokens: number): { usage?: WireUsage } {
  if (reply.usageReport === 'never') return {}
  const tokens = reportedTokens(reply)
  return {
    usage: {
      input_tokens: tokens.prompt - tokens.cached - tokens.cacheWrite,
      cache_creation_input_tokens: tokens.cacheWrite,
      cache_read_input_tokens: tokens.cached,
      cache_creation: { ephemeral_5m_input_tokens: tokens.cacheWrite, ephemeral_1h_input_tokens: 0 },
      output_tokens: outputTokens,
      service_tier: 'standard',
    },
  }
}

/** A stream opens with one output token, as the real server counts before it has produced any. */
function startTokens(reply: Reply): number {
  return Math.min(1, reportedTokens(reply).completion)
}

function stopReason(reply: Reply): StopReason {
  if (reply.finish === 'tool-calls') return 'tool_use'
  return reply.finish === 'length' ? 'max_tokens' : 'end_turn'
}

function readTool(tool: unknown): AskedTool {
  const { name, input_schema: schema } = asRecord(tool)
  return { name: asText(name), inputSchema: asRecord(schema) }
}

function readToolChoice(choice: unknown): Asked['toolChoice'] {
  const { type, name } = asRecord(choice)
  if (type === 'none') return 'none'
  if (type === 'any') return 'required'
  return type === 'tool' ? { name: asText(name) } : 'auto'
}
