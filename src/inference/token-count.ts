import { Worker } from 'node:worker_threads'
import { estimateTextTokens } from './prompt-estimate.ts'
import { textSample } from './text-sample.ts'

/**
 * How many tokens `text` has in o200k_base, OpenAI's encoding since GPT-4o: for streams whose upstream did not say.
 * Other models' own tokenizers differ from it by some percent. What spells a special token counts as plain text. Of a
 * long text a sample is counted, and the rest taken to be like it.
 *
 * Counts in a thread of its own, started on first use: to load the table of the encoding blocks for 200 ms and
 * takes 75 MB, neither of which the streams beside should feel. All of them share it, and an answer's last byte waits
 * for its count: where much waits already, or the thread ends, the plain estimate is the answer.
 */
export function countTokens(text: string): Promise<number> {
  counter ??= new TokenCounter()
  return counter.count(text)
}

let counter: TokenCounter | null = null

/** What is used of a worker: takes texts, answers their counts, in order. */
export interface CountingThread {
  on(event: 'message', listener: (tokens: number) => void): unknown
  on(event: 'error' | 'exit', listener: () => void): unknown
  postMessage(text: string): void
  ref(): void
  unref(): void
}

interface Waiting {
  bytes: number
  resolve: (tokens: number | null) => void
}

export class TokenCounter {
  readonly #startThread: () => CountingThread
  readonly #waitingBytesMax: number
  #thread: CountingThread | null = null
  /** In the order in which the thread answers, which is the order of asking. */
  #waiting: Waiting[] = []
  #waitingBytes = 0

  /** Random Chinese, the slowest text that was found, takes 4 µs a byte: nobody waits for others for over a second. */
  constructor({
    startThread = () => new Worker(new URL('./token-count-thread.ts', import.meta.url)),
    waitingBytesMax = 256 * 1024,
  }: {
    startThread?: () => CountingThread
    waitingBytesMax?: number
  } = {}) {
    this.#startThread = startThread
    this.#waitingBytesMax = waitingBytesMax
  }

  async count(text: string): Promise<number> {
    if (text === '') return 0
    const { sample, sampleBytes, textBytes } = textSample(text)
    if (this.#waitingBytes + sampleBytes > this.#waitingBytesMax) return estimateTextTokens(textBytes)
    const counted = await this.#ask(sample, sampleBytes)
    return counted === null ? estimateTextTokens(textBytes) : Math.round((counted * textBytes) / sampleBytes)
  }

  /** Null when the thread ends before it has answered. */
  #ask(text: string, bytes: number): Promise<number | null> {
    const thread = this.#thread ?? this.#start()
    // Who waits for a count is about to write a billing event: the process must not end meanwhile.
    thread.ref()
    return new Promise((resolve) => {
      this.#waiting.push({ bytes, resolve })
      this.#waitingBytes += bytes
      thread.postMessage(text)
    })
  }

  #start(): CountingThread {
    const thread = this.#startThread()
    thread.on('message', (tokens: number) => {
      const answered = this.#waiting.shift()
      this.#waitingBytes -= answered?.bytes ?? 0
      if (this.#waiting.length === 0) thread.unref()
      answered?.resolve(tokens)
    })
    // An error ends the thread, and is told first: those who come after it get a new one.
    thread.on('error', () => this.#ended(thread))
    thread.on('exit', () => this.#ended(thread))
    this.#thread = thread
    return thread
  }

  #ended(thread: CountingThread): void {
    if (this.#thread !== thread) return
    this.#thread = null
    const waiting = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    for (const { resolve } of waiting) resolve(null)
  }
}
