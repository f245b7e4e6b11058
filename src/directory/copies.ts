import { LRUCache } from 'lru-cache'
import { slugLengthMax } from '../slug.ts'

/** How long a key or slug that does not exist is remembered: long enough to bear a flood of one wrong key. */
const absentMs = 5_000
const absentMax = 10_000
/** All their ids together, in characters: what callers invent takes little memory, also once its time has passed. */
const absentLengthMax = 256 * 1024
/** Slugs are the longest ids that rows have. */
const idLengthMax = slugLengthMax

/**
 * Bounded copies of rows, read on demand. Rows that do not exist are remembered apart and briefly, so that a
 * flood of invented keys cannot push out the real ones; of ids longer than any row has, nothing is read or kept.
 *
 * A copy whose reading overlapped any change is used once and not kept: what is kept was read after the last
 * change that this process knows of.
 */
export class Copies<Value extends object> {
  readonly #present: LRUCache<string, Value>
  readonly #absent = new LRUCache<string, true>({
    max: absentMax,
    ttl: absentMs,
    maxSize: absentLengthMax,
    sizeCalculation: (_, id) => Math.max(1, id.length),
  })
  readonly #reading = new Map<string, Promise<Value | null>>()
  readonly #read: (id: string) => Promise<Value | null>
  #changes = 0

  constructor(read: (id: string) => Promise<Value | null>, { max }: { max: number }) {
    this.#read = read
    this.#present = new LRUCache({ max })
  }

  /** The copy at hand, without waiting; undefined when the row has to be read, null when it does not exist. */
  peek(id: string): Value | null | undefined {
    if (id.length > idLengthMax) return null
    return this.#present.get(id) ?? (this.#absent.has(id) ? null : undefined)
  }

  /** The row, or null when there is none; callers of one moment share one read. */
  get(id: string): Promise<Value | null> {
    if (id.length > idLengthMax) return Promise.resolve(null)
    const underWay = this.#reading.get(id)
    if (underWay !== undefined) return underWay
    const reading = this.#readAndKeep(id).finally(() => {
      if (this.#reading.get(id) === reading) this.#reading.delete(id)
    })
    this.#reading.set(id, reading)
    return reading
  }

  drop(id: string): void {
    this.#forgetReads()
    this.#present.delete(id)
    this.#absent.delete(id)
  }

  dropWhere(isStale: (value: Value) => boolean): void {
    this.#forgetReads()
    this.#absent.clear()
    for (const [id, value] of this.#present.entries()) if (isStale(value)) this.#present.delete(id)
  }

  async #readAndKeep(id: string): Promise<Value | null> {
    const changesBefore = this.#changes
    const value = await this.#read(id)
    if (this.#changes !== changesBefore) return value
    if (value === null) this.#absent.set(id, true)
    else this.#present.set(id, value)
    return value
  }

  /** Reads under way may have seen the rows of before: nobody who comes after the change may share them. */
  #forgetReads(): void {
    this.#changes += 1
    this.#reading.clear()
  }
}
