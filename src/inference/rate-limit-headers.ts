import type { HeaderList } from '../http1/headers.ts'
import type { RateLimitState, RateLimits } from '../limits/limiter.ts'

/** The `x-ratelimit-*` headers for the tightest rate limit of each type, where there is one (contract §12). */
export function rateLimitHeaders({ requests, tokens }: RateLimits): HeaderList {
  return [
    ...(requests === null ? [] : limitHeaders(requestHeaders, requests)),
    ...(tokens === null ? [] : limitHeaders(tokenHeaders, tokens)),
  ]
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

function limitHeaders(names: typeof requestHeaders, { limit, remaining, resetMs }: RateLimitState): HeaderList {
  return [names.limit, String(limit), names.remaining, String(remaining), names.reset, duration(resetMs)]
}

/** A span of time as OpenAI's headers write it: `850ms`, `3s`, `1m0s`. */
function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}
