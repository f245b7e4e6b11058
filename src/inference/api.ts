import { chatDialect, type Dialect, responsesDialect } from './dialects.ts'
import { openAiErrorFrame, openAiResponsesErrorFrame } from './openai.ts'
import type { Refusal } from './refusal.ts'
import type { Member } from './request.ts'

/** One of the APIs that the inference listener speaks, as far as forwarding and metering differ. */
export interface Api {
  /** What follows the upstream's base URL. */
  upstreamPath: string
  /** How its answers are written. */
  dialect: Dialect
  /** Tells a client, within a stream that has begun, that it will not go on. */
  renderErrorFrame(refusal: Refusal): Buffer
  /** Whether upstream tells a stream's usage only when `stream_options.include_usage` asks for it. */
  usageOnRequest: boolean
  /** The members that make up the prompt, for the estimate that a request reserves. */
  promptMembers: readonly Member[]
  /** The members that declare the largest output, in tokens; where several stand, the largest counts. */
  outputBoundMembers: readonly Member[]
  /** The members that say how many answers are written to a prompt; where several stand, the largest counts. */
  choiceCountMembers: readonly Member[]
  /** The member that may hold a list of prompts, each of which is answered. */
  promptListMember: Member | null
}

/** By request path (contract §2). */
export const apis: ReadonlyMap<string, Api> = new Map<string, Api>([
  [
    '/v1/chat/completions',
    {
      upstreamPath: '/chat/completions',
      dialect: chatDialect,
      renderErrorFrame: openAiErrorFrame,
      usageOnRequest: true,
      promptMembers: ['messages', 'tools'],
      outputBoundMembers: ['max_completion_tokens', 'max_tokens'],
      choiceCountMembers: ['n', 'best_of'],
      promptListMember: null,
    },
  ],
  [
    '/v1/completions',
    {
      upstreamPath: '/completions',
      dialect: chatDialect,
      renderErrorFrame: openAiErrorFrame,
      usageOnRequest: true,
      promptMembers: ['prompt'],
      outputBoundMembers: ['max_tokens'],
      choiceCountMembers: ['n', 'best_of'],
      promptListMember: 'prompt',
    },
  ],
  [
    '/v1/embeddings',
    {
      upstreamPath: '/embeddings',
      dialect: chatDialect,
      renderErrorFrame: openAiErrorFrame,
      usageOnRequest: false,
      promptMembers: ['input'],
      outputBoundMembers: [],
      choiceCountMembers: [],
      promptListMember: null,
    },
  ],
  [
    '/v1/responses',
    {
      upstreamPath: '/responses',
      dialect: responsesDialect,
      renderErrorFrame: openAiResponsesErrorFrame,
      usageOnRequest: false,
      promptMembers: ['input', 'instructions', 'tools'],
      outputBoundMembers: ['max_output_tokens'],
      choiceCountMembers: [],
      promptListMember: null,
    },
  ],
])
