export type AnswerState = 'open' | 'completed' | 'cut' | 'aborted'

/** The upstream's account of one answer: what it may do, what it has done, and who waits for that. */
export class AnswerProgress {
  readonly #monotonic: () => number
  readonly #ending = new AbortController()
  readonly #waiting = new Set<{ condition: () => boolean; resolve: () => void }>()
  #state: AnswerState = 'open'
  #endedAtMs: number | null = null
  #opened = false
  #chunks = 0
  #tokens = 0
  #bytes = 0
  #openingAllowed = false
  #chunksAllowed = 0

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic
  }

  get state(): AnswerState {
    return this.#state
  }

  get endedAtMs(): number | null {
    return this.#endedAtMs
  }

  get chunks(): number {
    return this.#chunks
  }

  get tokens(): number {
    return this.#tokens
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Aborts when the answer has ended, however it did. */
  get signal(): AbortSignal {
    return this.#ending.signal
  }

  /** Resolves when they are out, or the answer has ended. */
  allow(chunks: number): Promise<void> {
    this.#openingAllowed = true
    this.#chunksAllowed += chunks
    const target = this.#chunksAllowed
    this.#wake()
    return this.#until(() => this.#opened && this.#chunks >= target)
  }

  mayOpen(): Promise<void> {
    return this.#until(() => this.#openingAllowed)
  }

  mayProduce(): Promise<void> {
    return this.#until(() => this.#chunksAllowed > this.#chunks)
  }

  mayFinish(): Promise<void> {
    return this.#until(() => this.#chunksAllowed === Number.POSITIVE_INFINITY)
  }

  opened(): void {
    this.#opened = true
    this.#wake()
  }

  /** A model has spent these tokens, whether or not they can still be sent. */
  tokensProduced(tokensUntilNow: number): void {
    this.#tokens = tokensUntilNow
  }

  chunkDone(): void {
    if (this.#state !== 'open') return
    this.#chunks += 1
    this.#wake()
  }

  bytesTaken(count: number): void {
    this.#bytes += count
  }

  /** The first ending counts: a socket that we cut is not a client that went away. */
  end(state: Exclude<AnswerState, 'open'>): void {
    if (this.#state !== 'open') return
    this.#state = state
    this.#endedAtMs = this.#monotonic()
    this.#ending.abort()
    this.#wake()
  }

  ended(): Promise<void> {
    return this.#until(() => false)
  }

  /** Resolves on the condition, and on the end of the answer. */
  #until(condition: () => boolean): Promise<void> {
    const ready = () => this.#state !== 'open' || condition()
    if (ready()) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.add({ condition: ready, resolve }))
  }

  #wake(): void {
    for (const waiter of this.#waiting) {
      if (!waiter.condition()) continue
      this.#waiting.delete(waiter)
      waiter.resolve()
    }
  }
}
