import { closeSync, fdatasyncSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

/** One file of the journal. Later ones have greater numbers. */
export interface Segment {
  readonly number: number
  readonly path: string
  /** So many bytes of it are good: what is behind them was never promised to anybody. */
  bytes: number
  /** So many events in it have not been removed. Damaged ones are among them until a reading has passed over them. */
  events: number
}

/** A segment that this process writes to. */
export interface GrowingSegment extends Segment {
  /** Whether the next `write` begins where the last good one ended. */
  readonly isSound: boolean
  /** Writes all of `text`, to survive a killed process or, with full, a power cut. Throws having written nothing. */
  write(text: string, sync: 'normal' | 'full'): void
  close(): void
}

/** Makes the segment's file, readable by its owner alone. Throws where there is one. */
export function beginSegment({ number, path }: { number: number; path: string }): GrowingSegment {
  return new SegmentFile(number, path)
}

class SegmentFile implements GrowingSegment {
  readonly number: number
  readonly path: string
  bytes = 0
  events = 0
  /** Null once it is closed. */
  #file: number | null
  #isInFolder = false

  constructor(number: number, path: string) {
    this.number = number
    this.path = path
    this.#file = openSync(path, 'ax', 0o600)
  }

  get isSound(): boolean {
    return this.#file !== null
  }

  write(text: string, sync: 'normal' | 'full'): void {
    if (this.#file === null) throw new Error(`${this.path} is closed.`)
    const bytes = Buffer.from(text)
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(this.#file, bytes, written)
      if (sync === 'full') this.#survivePowerCut(this.#file)
    } catch (error) {
      this.#cutBack(this.#file)
      throw error
    }
    this.bytes += bytes.length
  }

  close(): void {
    if (this.#file === null) return
    try {
      closeSync(this.#file)
    } catch {
      // What has been written stays written. A descriptor that cannot be closed is of no use to anybody.
    }
    this.#file = null
  }

  #survivePowerCut(file: number): void {
    fdatasyncSync(file)
    if (this.#isInFolder) return
    syncFolder(dirname(this.path))
    this.#isInFolder = true
  }

  /** A disk that is full may have taken a part. Where that cannot be cut off, nothing may follow it. */
  #cutBack(file: number): void {
    try {
      ftruncateSync(file, this.bytes)
    } catch {
      this.close()
    }
  }
}

/** A new file's name survives a power cut once its folder is on the disk. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
