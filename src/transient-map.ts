/**
 * A `Map` for entries that come and go, one or more a request. In a `Map` alone they would outlive their removal: it
 * moves to a new table for every so many of them, each table holds on to the next, and once one of them has grown old,
 * V8 keeps all later ones, and what stood in them, until it collects all garbage. Half of all memory that grew old was
 * such. A `Map` that is new holds on to no table, so the entries move to one now and then.
 *
 * Iterating goes by the order of insertion. Entries may be deleted meanwhile; once one is set, what comes and goes may
 * still be missed, or be seen.
 */
export class TransientMap<Key, Value> {
  #entries = new Map<Key, Value>()
  #setSinceMove = 0

  get(key: Key): Value | undefined {
    return this.#entries.get(key)
  }

  /** `key` must not be there yet. */
  set(key: Key, value: Value): void {
    this.#setSinceMove += 1
    if (this.#setSinceMove > Math.max(this.#entries.size, setBetweenMovesMin)) this.#move()
    this.#entries.set(key, value)
  }

  delete(key: Key): boolean {
    return this.#entries.delete(key)
  }

  values(): Iterable<Value> {
    return this.#entries.values()
  }

  [Symbol.iterator](): Iterator<[Key, Value]> {
    return this.#entries[Symbol.iterator]()
  }

  #move(): void {
    this.#entries = new Map(this.#entries)
    this.#setSinceMove = 0
  }
}

/** Few enough to be gone before V8 takes what they leave for old; so many that a move is one entry's work for each of them. */
const setBetweenMovesMin = 1_024
