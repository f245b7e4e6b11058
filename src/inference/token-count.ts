import { Worker } from 'node:worker_threads'

/**
 * How many tokens `text` has in o200k_base, OpenAI's encoding since GPT-4o: for streams whose upstream did not say.
 * Other models' own tokenizers differ from it by some percent. What spells a special token counts as plain text.
 *
 * Counts in a thread of its own, started on first use: to load the table of the encoding blocks for 200 ms and
 * takes 75 MB, neither of which the streams beside should feel. Rejects when the thread ends.
 */
export function countTokens(text: string): Promise<number> {
  if (text === '') return Promise.resolve(0)
  counting ??= new CountingThread(() => {
    counting = null
  })
  return counting.count(text)
}

let counting: CountingThread | null = null

interface Waiting {
  resolve: (tokens: number) => void
  reject: (reason: Error) => void
}

class CountingThread {
  readonly #worker = new Worker(new URL('./token-count-thread.ts', import.meta.url))
  /** In the order in which the thread answers, which is the order of asking. */
  readonly #waiting: Waiting[] = []

  constructor(onGone: () => void) {
    this.#worker.on('message', (tokens: number) => this.#answered(tokens))
    this.#worker.on('error', (cause) => this.#failed(cause))
    this.#worker.on('exit', () => {
      onGone()
      this.#failed(new Error('the thread has ended'))
    })
    this.#worker.unref()
  }

  count(text: string): Promise<number> {
    // Who waits for a count is about to write a billing event: the process must not end meanwhile.
    this.#worker.ref()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#worker.postMessage(text)
    })
  }

  #answered(tokens: number): void {
    this.#waiting.shift()?.resolve(tokens)
    if (this.#waiting.length === 0) this.#worker.unref()
  }

  #failed(cause: unknown): void {
    for (const { reject } of this.#waiting.splice(0)) reject(new Error('The tokens could not be counted.', { cause }))
  }
}
