import type { TokenCounts } from '../ledger/billing-event.ts'
import { isTokenCount } from '../token-bounds.ts'

/**
 * The token counts that an upstream reported, in the names of chat completions and embeddings (`prompt_tokens`,
 * `completion_tokens`) or of responses (`input_tokens`, `output_tokens`). Zero stays zero. Null when what it
 * reported are no counts, or more than a count can be: nothing is billed as measured that was not.
 */
export function readUsage(usage: Readonly<Record<string, unknown>>): TokenCounts | null {
  const inputTokens = usage['prompt_tokens'] ?? usage['input_tokens']
  // Embeddings have a prompt and no output.
  const outputTokens = usage['completion_tokens'] ?? usage['output_tokens'] ?? 0
  if (!isTokenCount(inputTokens) || !isTokenCount(outputTokens)) return null
  const details = usage['prompt_tokens_details'] ?? usage['input_tokens_details']
  const cached = typeof details === 'object' && details !== null ? Reflect.get(details, 'cached_tokens') : 0
  return { inputTokens, outputTokens, cachedInputTokens: isTokenCount(cached) ? Math.min(cached, inputTokens) : 0 }
}
