import type { RateLimitState } from '../limits/limiter.ts'

/** The `x-ratelimit-*` headers for the tightest rate limit of each type, where there is one (contract §12). */
export function rateLimitHeaders(rateLimits: {
  requests: RateLimitState | null
  tokens: RateLimitState | null
}): Record<string, string> {
  return { ...headersOf('requests', rateLimits.requests), ...headersOf('tokens', rateLimits.tokens) }
}

function headersOf(counted: 'requests' | 'tokens', state: RateLimitState | null): Record<string, string> {
  if (state === null) return {}
  return {
    [`x-ratelimit-limit-${counted}`]: String(state.limit),
    [`x-ratelimit-remaining-${counted}`]: String(Math.max(0, state.remaining)),
    [`x-ratelimit-reset-${counted}`]: duration(state.resetMs),
  }
}

/** A span of time as OpenAI's headers write it: `850ms`, `3s`, `1m0s`. */
function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}
