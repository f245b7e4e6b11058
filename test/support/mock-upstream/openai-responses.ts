import type {
  Response,
  ResponseFunctionToolCall,
  ResponseOutputItem,
  ResponseOutputMessage,
  ResponseStreamEvent,
  ResponseUsage,
} from 'openai/resources/responses/responses'
import type { Api, Frame, StreamFrames } from './api.ts'
import { type Asked, type AskedTool, askedNothing, contentText, messagesText, outputSchema } from './asked.ts'
import { asList, asNumber, asRecord, asText } from './read-json.ts'
import { type Part, pieceAt, type Reply, reportedTokens } from './reply.ts'

/** POST /v1/responses. A stream ends with `response.completed` (or `.incomplete`), which has the usage; no `[DONE]`. */
export const openaiResponses: Api = {
  errorShape: 'openai',

  fault(body) {
    if (asText(body['model']) === '') return "Missing required parameter: 'model'."
    return body['input'] === undefined ? "Missing required parameter: 'input'." : null
  },

  read: (body) => ({
    ...askedNothing,
    choices: 1,
    model: asText(body['model']),
    prompt: [asText(body['instructions']), contentText(body['input']) || messagesText(body['input'])].join('\n').trim(),
    stream: body['stream'] === true,
    streamUsage: 'at-end',
    outputTokensMax: asNumber(body['max_output_tokens']),
    tools: asList(body['tools']).map(readTool),
    toolChoice: readToolChoice(body['tool_choice']),
    continuesToolCall: asRecord(asList(body['input']).at(-1))['type'] === 'function_call_output',
    outputSchema: outputSchema(asRecord(body['text'])['format']),
  }),

  answer: (reply) => finalResponse(reply),
  stream: (reply) => streamFrames(reply),
}

/** What the server sends; `output_text` is made by the client library. */
type WireResponse = Omit<Response, 'output_text' | 'access_programs'>

/** Events as they are sent, before they get their sequence number. */
type WireEvent = ResponseStreamEvent extends infer Event
  ? Event extends { response: Response }
    ? { type: string; response: WireResponse }
    : Omit<Event, 'sequence_number'>
  : never

function streamFrames(reply: Reply): StreamFrames {
  let sequenceNumber = 0
  const frames = (events: WireEvent[]): Frame[] =>
    events.map((event) => ({ event: event.type, data: { ...event, sequence_number: sequenceNumber++ } }))

  const started = response(reply, { status: 'in_progress', output: [] })
  return {
    opening: frames([
      { type: 'response.created', response: started },
      { type: 'response.in_progress', response: started },
    ]),
    chunk(index) {
      const { part, partIndex, piece, first } = pieceAt(reply, index)
      const last = piecesUntil(reply, partIndex) === index + 1
      return frames([
        ...(first ? itemStart(reply, part, partIndex) : []),
        itemDelta(reply, part, partIndex, piece),
        ...(last ? itemEnd(reply, part, partIndex) : []),
      ])
    },
    closing: () =>
      frames([
        {
          type: reply.finish === 'length' ? 'response.incomplete' : 'response.completed',
          response: finalResponse(reply),
        },
      ]),
    failure: (message) => frames([{ type: 'error', code: 'server_error', message, param: null }]),
  }
}

function itemStart(reply: Reply, part: Part, index: number): WireEvent[] {
  const added = { type: 'response.output_item.added', output_index: index } as const
  if (part.kind === 'tool-call')
    return [{ ...added, item: { ...toolItem(part), arguments: '', status: 'in_progress' } }]
  return [
    { ...added, item: { ...messageItem(reply, index), content: [], status: 'in_progress' } },
    {
      type: 'response.content_part.added',
      item_id: messageId(reply, index),
      output_index: index,
      content_index: 0,
      part: textContent(''),
    },
  ]
}

function itemDelta(reply: Reply, part: Part, index: number, piece: string): WireEvent {
  if (part.kind === 'tool-call')
    return {
      type: 'response.function_call_arguments.delta',
      item_id: `fc_${part.id}`,
      output_index: index,
      delta: piece,
    }
  return {
    type: 'response.output_text.delta',
    item_id: messageId(reply, index),
    output_index: index,
    content_index: 0,
    delta: piece,
    logprobs: [],
  }
}

function itemEnd(reply: Reply, part: Part, index: number): WireEvent[] {
  const done = { type: 'response.output_item.done', output_index: index, item: outputItem(reply, part, index) } as const
  if (part.kind === 'tool-call') {
    const input = JSON.stringify(part.input)
    return [
      {
        type: 'response.function_call_arguments.done',
        item_id: `fc_${part.id}`,
        output_index: index,
        arguments: input,
      },
      done,
    ]
  }
  const place = { item_id: messageId(reply, index), output_index: index, content_index: 0 }
  return [
    { type: 'response.output_text.done', ...place, text: part.text, logprobs: [] },
    { type: 'response.content_part.done', ...place, part: textContent(part.text) },
    done,
  ]
}

function finalResponse(reply: Reply): WireResponse {
  return response(reply, {
    status: reply.finish === 'length' ? 'incomplete' : 'completed',
    incomplete_details: reply.finish === 'length' ? { reason: 'max_output_tokens' } : null,
    output: reply.parts.map((part, index) => outputItem(reply, part, index)),
    ...(reply.usageReport === 'never' ? {} : { usage: usage(reply) }),
  })
}

function response(reply: Reply, state: Partial<WireResponse>): WireResponse {
  return {
    id: `resp_mock${String(reply.request.index).padStart(44, '0')}`,
    object: 'response',
    created_at: 1_768_478_400,
    status: 'in_progress',
    background: false,
    error: null,
    incomplete_details: null,
    instructions: asText(reply.request.body['instructions']) || null,
    max_output_tokens: reply.asked.outputTokensMax,
    model: reply.model,
    output: [],
    parallel_tool_calls: true,
    previous_response_id: null,
    service_tier: 'default',
    temperature: 1,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    truncation: 'disabled',
    metadata: {},
    ...state,
  }
}

function outputItem(reply: Reply, part: Part, index: number): ResponseOutputItem {
  return part.kind === 'text' ? messageItem(reply, index) : toolItem(part)
}

function messageItem(reply: Reply, index: number): ResponseOutputMessage {
  const part = reply.parts[index]
  return {
    id: messageId(reply, index),
    type: 'message',
    status: reply.finish === 'length' ? 'incomplete' : 'completed',
    role: 'assistant',
    content: part?.kind === 'text' ? [textContent(part.text)] : [],
  }
}

function toolItem(part: Extract<Part, { kind: 'tool-call' }>): ResponseFunctionToolCall {
  return {
    id: `fc_${part.id}`,
    type: 'function_call',
    status: 'completed',
    call_id: `call_${part.id}`,
    name: part.name,
    arguments: JSON.stringify(part.input),
  }
}

function textContent(text: string): { type: 'output_text'; text: string; annotations: []; logprobs: [] } {
  return { type: 'output_text', text, annotations: [], logprobs: [] }
}

function usage(reply: Reply): ResponseUsage {
  const tokens = reportedTokens(reply)
  return {
    input_tokens: tokens.prompt,
    input_tokens_details: { cached_tokens: tokens.cached, cache_write_tokens: tokens.cacheWrite },
    output_tokens: tokens.completion,
    output_tokens_details: { reasoning_tokens: tokens.reasoning },
    total_tokens: tokens.prompt + tokens.completion,
  }
}

function messageId(reply: Reply, index: number): string {
  return `msg_mock${String(reply.request.index).padStart(8, '0')}${String(index).padStart(8, '0')}`
}

function piecesUntil(reply: Reply, partIndex: number): number {
  return reply.parts.slice(0, partIndex + 1).reduce((sum, part) => sum + part.pieces.length, 0)
}

function readTool(tool: unknown): AskedTool {
  const { name, parameters } = asRecord(tool)
  return { name: asText(name), inputSchema: asRecord(parameters) }
}

function readToolChoice(choice: unknown): Asked['toolChoice'] {
  if (choice === 'required' || choice === 'none') return choice
  const name = asText(asRecord(choice)['name'])
  return name === '' ? 'auto' : { name }
}
