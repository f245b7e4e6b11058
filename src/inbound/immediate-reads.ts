import type { Socket } from 'node:net'

/**
 * Hands what `socket` reads to `take` at once, in its order, for as long as nobody has paused it. What comes meanwhile
 * waits in the socket's own queue, as ever.
 *
 * Left to itself, a stream asks on the tick after each chunk whether it should read on. A socket reads on anyhow, and
 * the asking takes 4 % of a small request.
 */
export function readImmediately(socket: Socket, take: (bytes: Buffer) => void): void {
  const push = socket.push.bind(socket)
  socket.push = (bytes: Buffer | null) => {
    const isQueued = socket.readableFlowing !== true || socket.readableLength > 0
    if (bytes === null || isQueued) return push(bytes)
    take(bytes)
    return true
  }
  socket.on('data', take)
}
