import type { TokenCounts } from '../ledger/billing-event.ts'
import { tokensMax } from '../token-bounds.ts'
import type { Api } from './api.ts'
import { membersOf } from './json-scan.ts'
import type { Span } from './json-text.ts'
import { estimatePromptTokens } from './prompt-estimate.ts'
import type { InferenceRequest } from './request.ts'
import { countTokens } from './token-count.ts'

/**
 * Counts what upstream does not: an answer without usage, or one that ended before it was told. Texts are counted
 * with a real tokenizer, as they come; events that rest on it say so (`usageSource: "estimated"`, contract §14).
 */
export class TokenEstimate {
  readonly #api: Api
  readonly #request: InferenceRequest
  #outputTokens: Promise<number> = Promise.resolve(0)
  #hasOutput = false

  constructor({ api, request }: { api: Api; request: InferenceRequest }) {
    this.#api = api
    this.#request = request
  }

  /** More of what the model wrote. */
  addOutput(text: string): void {
    if (text === '') return
    this.#hasOutput = true
    const counting = countTokens(text)
    this.#outputTokens = this.#outputTokens.then(async (counted) => counted + (await counting))
  }

  /** Whether the model wrote anything that was added. */
  get hasOutput(): boolean {
    return this.#hasOutput
  }

  /** The prompt, and all output added so far. */
  async tokens(): Promise<TokenCounts> {
    return {
      inputTokens: Math.min(tokensMax, await countPrompt(this.#request, this.#api)),
      outputTokens: Math.min(tokensMax, await this.#outputTokens),
      cachedInputTokens: 0,
    }
  }
}

/** A longer prompt is not parsed: that takes a millisecond for each megabyte of text, and 30 for one of small values. */
const parsedBytesMax = 1024 * 1024

async function countPrompt({ body, scanned }: InferenceRequest, { promptMembers }: Api): Promise<number> {
  const members = membersOf(scanned, promptMembers)
  const bytes = members.reduce((sum, { start, end }) => sum + end - start, 0)
  if (bytes > parsedBytesMax) return estimatePromptTokens(body, members)
  const { texts, tokenIds } = promptOf(body, members)
  return tokenIds + (await countTokens(texts.join('\n')))
}

interface Prompt {
  texts: string[]
  /** Prompts of completions and embeddings may come as the ids of tokens. */
  tokenIds: number
}

/** What a model reads of a prompt: its texts, without the JSON around them and without what is no text. */
function promptOf(body: Buffer, members: readonly Span[]): Prompt {
  const prompt: Prompt = { texts: [], tokenIds: 0 }
  for (const { start, end } of members) collect(JSON.parse(body.toString('utf8', start, end)), prompt)
  return prompt
}

function collect(value: unknown, prompt: Prompt): void {
  if (typeof value === 'string') {
    if (!value.startsWith('data:')) prompt.texts.push(value)
  } else if (typeof value === 'number') {
    prompt.tokenIds += 1
  } else if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) collect(item, prompt)
  }
}
