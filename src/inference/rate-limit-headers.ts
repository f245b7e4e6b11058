import type { RateLimitState, RateLimits } from '../limits/limiter.ts'

/** The `x-ratelimit-*` headers for the tightest rate limit of each type, where there is one (contract §12). */
export function rateLimitHeaders({ requests, tokens }: RateLimits): Record<string, string> {
  const headers: Record<string, string> = {}
  if (requests !== null) addHeaders(headers, requestHeaders, requests)
  if (tokens !== null) addHeaders(headers, tokenHeaders, tokens)
  return headers
}

const requestHeaders = {
  limit: 'x-ratelimit-limit-requests',
  remaining: 'x-ratelimit-remaining-requests',
  reset: 'x-ratelimit-reset-requests',
}
const tokenHeaders: typeof requestHeaders = {
  limit: 'x-ratelimit-limit-tokens',
  remaining: 'x-ratelimit-remaining-tokens',
  reset: 'x-ratelimit-reset-tokens',
}

function addHeaders(headers: Record<string, string>, names: typeof requestHeaders, state: RateLimitState): void {
  headers[names.limit] = String(state.limit)
  headers[names.remaining] = String(state.remaining)
  headers[names.reset] = duration(state.resetMs)
}

/** A span of time as OpenAI's headers write it: `850ms`, `3s`, `1m0s`. */
function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}
