import { asList, asRecord, asText, isRecord } from './read-json.ts'

/** What a request asks for, whichever API it was written for. */
export interface Asked {
  model: string
  /** All text of the prompt. */
  prompt: string
  stream: boolean
  /** When a stream shall report usage. */
  streamUsage: 'never' | 'at-end' | 'every-chunk'
  outputTokensMax: number | null
  /** Answers asked for; none of an API that generates no text. */
  choices: number
  tools: readonly AskedTool[]
  toolChoice: 'auto' | 'none' | 'required' | { name: string }
  /** The last message is a tool's result, so that the next one is the model's answer. */
  continuesToolCall: boolean
  /** The JSON schema that the text must fit, or null. */
  outputSchema: Record<string, unknown> | null
}

export interface AskedTool {
  name: string
  inputSchema: Record<string, unknown>
}

/** What a request without a body asks for, and what the others are read over. */
export const askedNothing: Asked = {
  model: '',
  prompt: '',
  stream: false,
  streamUsage: 'never',
  outputTokensMax: null,
  choices: 0,
  tools: [],
  toolChoice: 'auto',
  continuesToolCall: false,
  outputSchema: null,
}

/** The text of a content field: a string, or a list of parts, of which those with text count. */
export function contentText(content: unknown): string {
  if (typeof content === 'string') return content
  const parts = asList(content).map((part) => {
    const { text, content: nested } = asRecord(part)
    return asText(text) || contentText(nested)
  })
  return parts.filter((text) => text !== '').join(' ')
}

/** The text of a list of messages. */
export function messagesText(messages: unknown): string {
  return asList(messages)
    .map((message) => contentText(asRecord(message)['content']))
    .join('\n')
}

/** The schema in OpenAI's `response_format` (whose schema is nested) or in the flat form of the newer APIs. */
export function outputSchema(format: unknown): Record<string, unknown> | null {
  const { type, json_schema: nested, schema } = asRecord(format)
  if (type === 'json_object') return { type: 'object', properties: { answer: { type: 'string' } } }
  if (type !== 'json_schema') return null
  return isRecord(nested) ? asRecord(nested['schema']) : asRecord(schema)
}
