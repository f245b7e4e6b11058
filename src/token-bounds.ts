/**
 * The most tokens that one count can say: of a prompt, or of an output. Beyond it an upstream has not counted, whatever
 * it reported: the longest context windows that anybody announces hold a hundred million tokens.
 *
 * Sums must stay among the integers that a number holds exactly, up to 2^53, or counters drift. A request counts twice
 * this at most, and a counter of the day could add up 45 million such requests, 521 in every second of the day. At
 * 10,000 requests a second, 864 million a day, they may have ten million tokens each.
 */
export const tokensMax = 100_000_000

/** The most that one request can count: the tokens of its prompt and those of its output. */
export const requestTokensMax = 2 * tokensMax

/** Where a sum of a day stands still, whoever reported what: of input and output both, the sum is still exact. */
export const dayTokensMax = 2 ** 52 - 1

export function isTokenCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= tokensMax
}
