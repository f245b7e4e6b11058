import type { Dialect } from './dialects.ts'
import type { EventData } from './event-data.ts'
import { MemberNames } from './json-scan.ts'
import { jsonBytes, type Span } from './json-text.ts'

/** What one event of a stream says that matters for relaying and billing. Spans are parts of its data. */
export interface StreamEvent {
  /** The model's name, a JSON string. */
  model: Span | null
  /** The token counts, a JSON object. */
  usage: Span | null
  error: Span | null
  /** A choice says why it is finished. */
  finishesChoice: boolean
  /** The extra chunk of `stream_options.include_usage`: the usage, and no choice. */
  isUsageChunk: boolean
  /** It ends the stream. */
  ends: boolean
}

/** Reads all that matters. `frameType` is what the frame's `event` line says, or null. */
export function readEvent(
  data: EventData,
  { frameType, dialect: { envelope, finalTypes } }: { frameType: string | null; dialect: Dialect },
): StreamEvent {
  const event = data.members(eventMembers)
  const within = envelope === null ? event : data.members(eventMembers, { object: event[envelope] ?? nowhere })
  const type = data.startsWith(quote, event.type) ? data.toString(event.type).slice(1, -1) : frameType
  const error = [event.error, within.error].find((span) => span !== undefined && !data.startsWith(letterN, span))
  const usage = [event.usage, within.usage].find((span) => data.startsWith(openBrace, span))
  const choices = event.choices === undefined ? '' : data.toString(event.choices)
  return {
    model: modelIn(data, within),
    usage: usage ?? null,
    error: error ?? (type === 'error' || frameType === 'error' ? data.whole : null),
    finishesChoice: /"finish_reason"\s*:\s*"/.test(choices),
    isUsageChunk: usage !== undefined && /^\[\s*\]$/.test(choices),
    ends: (type !== null && finalTypes.includes(type)) || isDone(data),
  }
}

/** Reads only the model's name, of an event that has it at its top; much cheaper. */
export function readModel(data: EventData): Span | null {
  return modelIn(data, data.members(modelMember, { most: 1 }))
}

const eventMembers = new MemberNames(['type', 'model', 'usage', 'error', 'choices', 'message', 'response'])
const modelMember = new MemberNames(['model'])
const nowhere: Span = { start: 0, end: 0 }
const letterN = 0x6e
const { openBrace, openBracket, quote } = jsonBytes

function modelIn(data: EventData, { model }: { model?: Span }): Span | null {
  return model !== undefined && data.startsWith(quote, model) ? model : null
}

/** Whether an event is all there: one JSON value, or `[DONE]`, which is none. */
export function isWhole(data: EventData): boolean {
  return data.isOneValue() || isDone(data)
}

function isDone(data: EventData): boolean {
  return data.startsWith(openBracket, data.whole) && data.toString().trim() === '[DONE]'
}
