import type { Completion } from 'openai/resources/completions'
import type { Api, Frame } from './api.ts'
import { askedNothing } from './asked.ts'
import { openaiFailure } from './errors.ts'
import { answerUsage, askedStreamUsage, chunkUsage, finishUsage, hasUsageChunk, openaiUsage } from './openai-usage.ts'
import { asList, asNumber, asText } from './read-json.ts'
import { pieceAt, type Reply, replyText } from './reply.ts'

/** POST /v1/completions. Several prompts in one request have a choice each. */
export const openaiCompletions: Api = {
  errorShape: 'openai',

  fault(body) {
    if (asText(body['model']) === '') return 'you must provide a model parameter'
    if (body['stream_options'] != null && body['stream'] !== true)
      return "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return null
  },

  read: (body) => ({
    ...askedNothing,
    model: asText(body['model']),
    prompt: promptText(body['prompt']),
    stream: body['stream'] === true,
    streamUsage: askedStreamUsage(body),
    outputTokensMax: asNumber(body['max_tokens']) ?? 16,
    choices: (asNumber(body['n']) ?? 1) * promptCount(body['prompt']),
  }),

  answer: (reply): WireCompletion => ({
    ...common(reply),
    choices: choices(reply, replyText(reply), finishReason(reply)),
    ...answerUsage(reply),
  }),

  stream: (reply) => ({
    opening: [],
    chunk: (index) => choiceFrames(reply, pieceAt(reply, index).piece, null, chunkUsage(reply, index + 1)),
    closing: () => [
      ...choiceFrames(reply, '', finishReason(reply), finishUsage(reply)),
      ...(hasUsageChunk(reply) ? [frame({ ...common(reply), choices: [], usage: openaiUsage(reply) })] : []),
      { data: '[DONE]' },
    ],
    failure: openaiFailure,
  }),
}

/** The finish reason of a chunk in the middle is null, and so is its usage when the end will report it. */
type WireCompletion = Omit<Completion, 'choices' | 'usage'> & {
  choices: { index: number; text: string; logprobs: null; finish_reason: FinishReason }[]
  usage?: Completion['usage'] | null
}
type FinishReason = 'stop' | 'length' | null

function common(reply: Reply): Omit<Completion, 'choices'> {
  return {
    id: `cmpl-mock${String(reply.request.index).padStart(25, '0')}`,
    object: 'text_completion',
    created: 1_768_478_400,
    model: reply.model,
    system_fingerprint: 'fp_mock000001',
  }
}

function choices(reply: Reply, text: string, reason: FinishReason): WireCompletion['choices'] {
  return Array.from({ length: reply.asked.choices }, (_, index) => ({
    index,
    text,
    logprobs: null,
    finish_reason: reason,
  }))
}

function choiceFrames(reply: Reply, text: string, reason: FinishReason, usage: Pick<WireCompletion, 'usage'>): Frame[] {
  return choices(reply, text, reason).map((choice) => frame({ ...common(reply), choices: [choice], ...usage }))
}

function frame(data: WireCompletion): Frame {
  return { data }
}

function finishReason(reply: Reply): FinishReason {
  return reply.finish === 'length' ? 'length' : 'stop'
}

function promptText(prompt: unknown): string {
  return typeof prompt === 'string' ? prompt : asList(prompt).flat().join(' ')
}

/** A list of numbers is one prompt in tokens. */
function promptCount(prompt: unknown): number {
  const prompts = asList(prompt)
  return typeof prompts[0] === 'number' ? 1 : Math.max(1, prompts.length)
}
