/** The bytes of all pieces in a row: copies, except that a single piece is itself. */
export function joined(pieces: readonly Buffer[]): Buffer {
  const [only] = pieces
  return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
}
