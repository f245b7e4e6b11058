import type { CompletionUsage } from 'openai/resources/completions'
import type { Asked } from './asked.ts'
import { asRecord } from './read-json.ts'
import { type Reply, reportedTokens } from './reply.ts'

/** Usage as chat completions and completions report it, at the end or after so many chunks. */
export function openaiUsage(reply: Reply, chunks = reply.chunkCount): CompletionUsage {
  const tokens = reportedTokens(reply, chunks)
  return {
    prompt_tokens: tokens.prompt,
    completion_tokens: tokens.completion,
    total_tokens: tokens.prompt + tokens.completion,
    prompt_tokens_details: { cached_tokens: tokens.cached, cache_write_tokens: tokens.cacheWrite, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: tokens.reasoning,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}

/** The `usage` member of an answer in one piece, or nothing. */
export function answerUsage(reply: Reply): { usage?: CompletionUsage } {
  return reply.usageReport === 'never' ? {} : { usage: openaiUsage(reply) }
}

/** Whether the stream ends with a chunk of no choices that reports usage. */
export function hasUsageChunk(reply: Reply): boolean {
  const { usageReport, asked } = reply
  if (usageReport === 'never' || usageReport === 'with-finish') return false
  return usageReport === 'always' || usageReport === 'every-chunk' || asked.streamUsage !== 'never'
}

/** The `usage` member of a chunk in the middle of a stream: figures so far, null because more comes, or nothing. */
export function chunkUsage(reply: Reply, chunks: number): { usage?: CompletionUsage | null } {
  const { usageReport, asked } = reply
  if (usageReport === 'never') return {}
  if (usageReport === 'every-chunk' || asked.streamUsage === 'every-chunk') return { usage: openaiUsage(reply, chunks) }
  return asked.streamUsage === 'at-end' ? { usage: null } : {}
}

/** The `usage` member of the chunk that carries the finish reason. */
export function finishUsage(reply: Reply): { usage?: CompletionUsage | null } {
  if (reply.usageReport === 'with-finish') return { usage: openaiUsage(reply) }
  return chunkUsage(reply, reply.chunkCount)
}

/** What `stream_options` asks for; vLLM's continuous_usage_stats counts only beside include_usage. */
export function askedStreamUsage(body: Record<string, unknown>): Asked['streamUsage'] {
  const options = asRecord(body['stream_options'])
  if (options['include_usage'] !== true) return 'never'
  return options['continuous_usage_stats'] === true ? 'every-chunk' : 'at-end'
}
