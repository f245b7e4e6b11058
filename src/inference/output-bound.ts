import type { Api } from './api.ts'
import { type ScannedObject, scalarAt } from './json-scan.ts'
import { JsonText, jsonBytes, type Span } from './json-text.ts'
import { malformedRequest, type Refusal } from './refusal.ts'
import type { Member } from './request.ts'

/**
 * The most tokens that the model may write by what the request declares: for every choice of every prompt in it, the
 * largest output. 0 where it declares none. It may be any number, however large.
 */
export function readOutputBound(
  body: Buffer,
  { members }: ScannedObject<Member>,
  api: Api,
): { tokens: number } | { refusal: Refusal } {
  const output = largest(api.outputBoundMembers)
  const choices = largest(api.choiceCountMembers)
  if (typeof output !== 'number') return output
  if (typeof choices !== 'number') return choices
  if (output === 0) return { tokens: 0 }
  const prompts = api.promptListMember === null ? 1 : promptCount(body, members[api.promptListMember])
  return { tokens: output * Math.max(1, choices) * prompts }

  function largest(names: readonly Member[]): number | { refusal: Refusal } {
    let found = 0
    for (const name of names) {
      const value = scalarAt(body, members[name]) ?? 0
      // Many servers take "50" for 50. A number that is no count is left to upstream to refuse.
      if (typeof value !== 'number') return { refusal: malformedRequest(`\`${name}\` must be a number.`, name) }
      found = Math.max(found, value)
    }
    return found
  }
}

/**
 * How many prompts a well-formed value holds: the elements of a list of texts, or of lists of tokens. A list of tokens
 * is one prompt. Of a list beyond all use, what follows is counted as if nothing in it could be shorter: to walk ten
 * million empty texts takes 280 ms.
 */
export function promptCount(body: Buffer, prompt: Span | undefined): number {
  if (prompt === undefined || body[prompt.start] !== openBracket) return 1
  const text = new JsonText(body)
  let at = text.skipWhitespace(prompt.start + 1)
  if (body[at] !== quote && body[at] !== openBracket) return 1
  let count = 1
  for (; count < promptsWalkedMax; count++) {
    at = text.skipWhitespace(text.skipValue(at, Number.POSITIVE_INFINITY))
    if (body[at] !== comma) return count
    at = text.skipWhitespace(at + 1)
  }
  return count + Math.floor((prompt.end - at) / shortestPrompt.length)
}

const { comma, openBracket, quote } = jsonBytes
const promptsWalkedMax = 100_000
const shortestPrompt = '"",'
