import type { CreateEmbeddingResponse } from 'openai/resources/embeddings'
import type { Api } from './api.ts'
import { askedNothing } from './asked.ts'
import { asList, asNumber, asText } from './read-json.ts'
import { type Reply, reportedTokens } from './reply.ts'

/** POST /v1/embeddings: the same vector for the same input, as numbers or as base64 of 32-bit floats. */
export const openaiEmbeddings: Api = {
  errorShape: 'openai',

  fault(body) {
    if (asText(body['model']) === '') return 'you must provide a model parameter'
    if (inputs(body).length === 0) return "'input' must be a string, a list of strings or a list of tokens."
    return null
  },

  read: (body) => ({ ...askedNothing, model: asText(body['model']), prompt: inputs(body).join(' ') }),

  answer: (reply) => ({
    object: 'list',
    data: inputs(reply.request.body).map((input, index) => ({
      object: 'embedding' as const,
      index,
      embedding: encoded(vector(input, asNumber(reply.request.body['dimensions']) ?? 8), reply),
    })),
    model: reply.model,
    ...usage(reply),
  }),

  stream: null,
}

function usage(reply: Reply): Partial<Pick<CreateEmbeddingResponse, 'usage'>> {
  if (reply.usageReport === 'never') return {}
  const { prompt } = reportedTokens(reply)
  return { usage: { prompt_tokens: prompt, total_tokens: prompt } }
}

function encoded(values: Float32Array, reply: Reply): number[] | string {
  return reply.request.body['encoding_format'] === 'base64'
    ? Buffer.from(values.buffer).toString('base64')
    : Array.from(values)
}

function vector(input: string, dimensions: number): Float32Array {
  const values = Float32Array.from({ length: dimensions }, (_, index) => Math.sin(index + 1))
  for (const [index, character] of [...input].entries()) {
    const slot = index % dimensions
    values[slot] = Math.sin((values[slot] ?? 0) + (character.codePointAt(0) ?? 0))
  }
  const length = Math.hypot(...values)
  return values.map((value) => value / length)
}

/** One text for each embedding asked for; tokens stand as their numbers. */
function inputs({ input }: Record<string, unknown>): string[] {
  if (typeof input === 'string') return [input]
  const list = asList(input)
  if (typeof list[0] === 'number') return [list.join(' ')]
  return list.map((item) => (typeof item === 'string' ? item : asList(item).join(' ')))
}
