/**
 * A map that forgets what is no longer used. Its entries stand in two generations: what is used in the current one
 * stays, and what was not used during a whole generation leaves with all others of its kind at once. Nothing is ever
 * swept one by one, and memory holds what two generations of traffic used.
 *
 * `nowMs` is a time of a clock that never goes back.
 */
export class Generations<Value> {
  readonly #lengthMs: number
  #current = new Map<string, Value>()
  #previous = new Map<string, Value>()
  #currentSinceMs = 0

  constructor(lengthMs: number) {
    this.#lengthMs = lengthMs
  }

  /** The value of `key`, which has then been used. */
  use(key: string, nowMs: number): Value | undefined {
    this.#turnOver(nowMs)
    const value = this.#current.get(key)
    if (value !== undefined) return value

    const earlier = this.#previous.get(key)
    if (earlier !== undefined) this.#current.set(key, earlier)
    return earlier
  }

  /** Gives `key` the value, and returns it. */
  set(key: string, value: Value, nowMs: number): Value {
    this.#turnOver(nowMs)
    this.#current.set(key, value)
    return value
  }

  /** The value of `key`, which may be forgotten all the same. */
  peek(key: string): Value | undefined {
    return this.#current.get(key) ?? this.#previous.get(key)
  }

  *values(): Iterable<Value> {
    yield* this.#current.values()
    for (const [key, value] of this.#previous) if (!this.#current.has(key)) yield value
  }

  #turnOver(nowMs: number): void {
    if (nowMs - this.#currentSinceMs < this.#lengthMs) return
    this.#previous = this.#current
    this.#current = new Map()
    this.#currentSinceMs = nowMs
  }
}
