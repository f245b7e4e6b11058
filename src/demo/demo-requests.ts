import { z } from 'zod'

// What the demo model understands. What it cannot do is refused; members that only tune a real model are passed over.

const words = z.string().min(1)
const tokensMax = z.int().min(1).nullish()

const textRequest = z.object({
  model: words,
  stream: z
    .boolean()
    .nullish()
    .transform((stream) => stream === true),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  max_tokens: tokensMax,
  stop: z.union([words.transform((stop) => [stop]), z.array(words)]).nullish(),
  n: z.literal(1, { error: 'The demo model gives one answer.' }).nullish(),
})

export type TextRequest = z.infer<typeof textRequest>

const content = z.union([
  z.string(),
  z
    .array(z.looseObject({ text: z.string().optional() }))
    .transform((parts) => parts.map(({ text }) => text ?? '').join(' ')),
])

export const chatRequest = textRequest.extend({
  messages: z.array(z.looseObject({ role: z.string(), content: content.nullish() })).min(1),
  max_completion_tokens: tokensMax,
  tool_choice: z.enum(['auto', 'none'], { error: 'The demo model calls no tools.' }).nullish(),
  response_format: z.looseObject({ type: z.literal('text', { error: 'The demo model writes plain text.' }) }).nullish(),
})

export const completionRequest = textRequest.extend({
  prompt: z.union([z.string(), z.tuple([z.string()]).transform(([prompt]) => prompt)], {
    error: 'The demo model takes one prompt, as a string.',
  }),
})

export const embeddingsRequest = z.object({
  model: words,
  input: z.union([z.string().transform((text) => [text]), z.array(z.string()).min(1)], {
    error: 'The demo model embeds a string or a list of strings.',
  }),
  dimensions: z.int().min(1).max(4096).default(256),
  encoding_format: z.enum(['float', 'base64']).default('float'),
})
