import type { TokenCounts } from '../ledger/billing-event.ts'
import type { Api } from './api.ts'
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
    this.#outputTokens = this.#outputTokens.then(async (counted) => counted + (await count(text)))
  }

  /** Whether the model wrote anything that was added. */
  get hasOutput(): boolean {
    return this.#hasOutput
  }

  /** The prompt, and all output added so far. */
  async tokens(): Promise<TokenCounts> {
    const { texts, tokenIds } = promptOf(this.#request, this.#api)
    return {
      inputTokens: tokenIds + (await count(texts.join('\n'))),
      outputTokens: await this.#outputTokens,
      cachedInputTokens: 0,
    }
  }
}

/** English has about so many characters to a token. */
const charactersPerToken = 4

/** The event is written also when the tokenizer's thread has died: the figure is then rougher, and estimated anyway. */
function count(text: string): Promise<number> {
  return countTokens(text).catch(() => Math.ceil(text.length / charactersPerToken))
}

interface Prompt {
  texts: string[]
  /** Prompts of completions and embeddings may come as the ids of tokens. */
  tokenIds: number
}

/** What a model reads of a prompt: its texts, without the JSON around them and without what is no text. */
function promptOf({ body, scanned }: InferenceRequest, { promptMembers }: Api): Prompt {
  const prompt: Prompt = { texts: [], tokenIds: 0 }
  for (const name of promptMembers) {
    const span = scanned.members[name]
    if (span !== undefined) collect(JSON.parse(body.toString('utf8', span.start, span.end)), prompt)
  }
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
