import { readFileSync } from 'node:fs'

/** `assembly/json-bytes.ts`, which says what the functions find. They take and answer places in `memory`. */
interface JsonBytes {
  memory: { buffer: ArrayBuffer }
  plainEnd(start: number): number
  stringEnd(start: number): number
  unstructuredEnd(start: number): number
}

/** What is used of it: TypeScript knows it in browsers only. */
declare const WebAssembly: {
  Module: new (code: Buffer) => object
  Instance: new (module: object) => { exports: unknown }
}

const module = new WebAssembly.Module(readFileSync(new URL('./json-bytes.wasm', import.meta.url)))
const { memory, plainEnd, stringEnd, unstructuredEnd } = new WebAssembly.Instance(module).exports as JsonBytes
const bytes = new Uint8Array(memory.buffer)

const shownBytesMax = 64 * 1024
/** The longest thing that must not be cut in two: an escape, `\u0000`. */
const escapeBytesMax = 6

let lastId = 0
/** Whose bytes are in memory, and which of them. */
let shownId = 0
let shownStart = 0
let shownEnd = 0

/**
 * A text on its way through the module's memory, a part of it at a time: all texts share that. To find the ends of the
 * strings in a prompt of 200 kB takes 70 µs there, and 160 in JavaScript, four bytes at a time.
 */
export class ShownText {
  readonly #id = ++lastId
  readonly #text: Buffer

  /** `text` must stay as it is. */
  constructor(text: Buffer) {
    this.#text = text
  }

  plainEnd(start: number): number {
    return this.#endOf(plainEnd, start)
  }

  unstructuredEnd(start: number): number {
    return this.#endOf(unstructuredEnd, start)
  }

  /** -1 where the string does not end, or breaks the grammar. */
  stringEnd(start: number): number {
    for (let at = start; ; ) {
      const shift = this.#show(at)
      const end = stringEnd(at - shift)
      if (end >= 0) return end + shift
      at = ~end + shift
      if (this.#isShown(at)) return -1
    }
  }

  #endOf(find: (start: number) => number, start: number): number {
    for (let at = start; ; ) {
      const shift = this.#show(at)
      at = find(at - shift) + shift
      if (this.#isShown(at)) return at
    }
  }

  /** Sees to it that the text is in memory from `at` on; answers how much further behind it stands in the text. */
  #show(at: number): number {
    if (!this.#isShown(at)) {
      const text = this.#text
      shownId = this.#id
      shownStart = text.length <= shownBytesMax ? 0 : at
      shownEnd = Math.min(text.length, shownStart + shownBytesMax)
      bytes.set(shownEnd - shownStart === text.length ? text : text.subarray(shownStart, shownEnd))
      bytes[shownEnd - shownStart] = 0
    }
    return shownStart
  }

  /** Whether what begins at `at` is in memory as a whole. */
  #isShown(at: number): boolean {
    if (shownId !== this.#id || at < shownStart) return false
    return at + escapeBytesMax <= shownEnd || shownEnd === this.#text.length
  }
}
