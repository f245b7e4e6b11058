import { chatText, messagesText, responsesText } from './generated-text.ts'

/** How answers are written in one of the APIs that upstreams speak, as far as a tap needs to know. */
export interface Dialect {
  /** The member of a stream's events that holds `model` and `usage`; null when they stand in the event itself. */
  envelope: 'message' | 'response' | null
  /**
   * Finds cheaply, over many frames at once and as Latin-1, those that need a closer look: its matches begin in them.
   * It may be wrong in one direction only: to ask for a look that finds nothing.
   */
  telling: RegExp
  /** The event types that end a stream; `[DONE]` does in every dialect. */
  finalTypes: readonly string[]
  /** The members of an answer in one piece that hold what the model wrote. */
  textMembers: readonly TextMember[]
  /** What the model wrote, out of one event of a stream or one answer in one piece. */
  textOf(data: unknown): string
}

export type TextMember = 'choices' | 'content' | 'output'

/** `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`. */
export const chatDialect: Dialect = {
  envelope: null,
  telling: /\[DONE\]|"(?:usage"\s*:\s*\{|finish_reason"\s*:\s*"|error")|(?<=^|[\r\n])event:/g,
  finalTypes: [],
  textMembers: ['choices'],
  textOf: chatText,
}

/** `/v1/messages`. */
export const messagesDialect: Dialect = {
  envelope: 'message',
  telling: /\[DONE\]|message_|"(?:usage"\s*:\s*\{|error")/g,
  finalTypes: ['message_stop'],
  textMembers: ['content'],
  textOf: messagesText,
}

/** `/v1/responses`. */
export const responsesDialect: Dialect = {
  envelope: 'response',
  telling: /\[DONE\]|"(?:response"\s*:|error")/g,
  finalTypes: ['response.completed', 'response.incomplete', 'response.failed'],
  textMembers: ['output'],
  textOf: responsesText,
}
