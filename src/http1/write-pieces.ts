import type { Writable } from 'node:stream'

const joinedLengthMax = 64 * 1024

/**
 * Writes the pieces in their order; strings are latin1. To write one buffer takes less than to write several, as long
 * as there is little to copy. False when the stream has more to send than it wants to hold.
 */
export function writePieces(stream: Writable, pieces: readonly (string | Buffer)[]): boolean {
  const length = lengthOf(pieces)
  if (length === 0) return !stream.writableNeedDrain
  if (length <= joinedLengthMax) return stream.write(inOneBuffer(pieces, length))
  stream.cork()
  let hasRoom = true
  for (const piece of pieces) hasRoom = stream.write(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)
  stream.uncork()
  return hasRoom
}

function inOneBuffer(pieces: readonly (string | Buffer)[], length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let at = 0
  for (const piece of pieces) {
    if (typeof piece === 'string') bytes.write(piece, at, 'latin1')
    else bytes.set(piece, at)
    at += piece.length
  }
  return bytes
}

/** In bytes. */
export function lengthOf(pieces: readonly (string | Buffer)[]): number {
  let length = 0
  for (const piece of pieces) length += piece.length
  return length
}
