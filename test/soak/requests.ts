import { z } from 'zod'
import { slug } from '../support/record-under-load.ts'

/** The request of this number. What becomes of it follows from the number, so that its event can be held against it. */
export function bodyOf(number: number): object {
  return {
    model: slug,
    stream: isStream(number),
    metadata: { number: String(number) },
    messages: [{ role: 'user', content: 'Hello '.repeat(1 + (number % 50)) }],
  }
}

export function isStream(number: number): boolean {
  return number % 2 === 0
}

/** Whether its client leaves in the midst of its answer, which is a slow stream. */
export function isAbandoned(number: number): boolean {
  return number % 20 === 0
}

/** What upstream counts for it. */
export function tokensOf(number: number): { promptTokens: number; completionTokens: number } {
  return { promptTokens: 5 + (number % 17), completionTokens: 1 + (number % 23) }
}

/** The number of the request that had this metadata. */
export function numberOf(metadata: unknown): number {
  return Metadata.parse(metadata).number
}

const Metadata = z.object({ number: z.coerce.number().int() })
