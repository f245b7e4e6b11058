import { type Edit, splice } from './json-scan.ts'
import type { Span } from './json-text.ts'

/**
 * Reads along while an answer flows from upstream to the client: puts the model's public name in the place of
 * upstream's, and gathers what billing needs. Holds back no byte that could leave.
 */
export interface ResponseTap {
  /** Takes the next bytes from upstream; answers the bytes for the client that this completes, in order. */
  push(chunk: Buffer): Tapped
  /** Upstream's body has ended: what was still waiting for its end. */
  end(): Tapped
  /** Whether the answer has come to its own end. Where its form has no mark for that, known once `end` was called. */
  readonly complete: boolean
  /** The token counts as upstream wrote them, or null while it has not. */
  usage(): Readonly<Record<string, unknown>> | null
  /** Whether upstream went on after the usage that it reported last: of an answer that broke off, that is not all then. */
  readonly isUsageOutrun: boolean
  /** The error that upstream reported inside a 200, as it wrote it, which should be JSON; or null. */
  error(): string | null
  /** What the model has written as far as it is kept: what an estimate counts when there is no usage. */
  producedText(): string
}

/**
 * Bytes for the client; null is none. `final` ends the answer as far as the client can tell, so it leaves only
 * after the billing event is on disk (contract §14). Once there was a `final`, all that follows is final too.
 */
export interface Tapped {
  send: Buffer | null
  final: Buffer | null
}

/**
 * A copy to keep as long as a stream is open. One that `Buffer.from` makes is a part of a pool of 64 kB, and would
 * keep all of it. With a greater `size` there is room behind the bytes.
 */
export function lastingCopy(bytes: Buffer, size = bytes.length): Buffer {
  const copy = Buffer.allocUnsafeSlow(size)
  copy.set(bytes)
  return copy
}

/** A chunk with its edits made, cut where what is final starts. */
export function tapped(chunk: Buffer, edits: readonly Edit[], finalAt: number): Tapped {
  return {
    send: part(chunk, edits, { start: 0, end: finalAt }),
    final: part(chunk, edits, { start: finalAt, end: chunk.length }),
  }
}

function part(chunk: Buffer, edits: readonly Edit[], span: Span): Buffer | null {
  if (span.start === span.end) return null
  const bytes = splice(chunk, edits, span)
  return bytes.length === 0 ? null : bytes
}
