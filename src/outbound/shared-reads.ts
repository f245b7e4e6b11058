import type { OnReadOpts, Socket } from 'node:net'

const bytes = Buffer.allocUnsafeSlow(64 * 1024)

/**
 * The `onread` option of a socket that emits what it reads as `data` and does nothing else with it. All such sockets
 * read into one buffer; what they emit is a copy of the size that it has. Left to itself, Node makes memory for each read
 * that is collected by itself, and passes it through a queue: 2 µs for each chunk of a stream.
 *
 * A small copy is a part of a pool of 64 kB: who keeps it for longer keeps all of that (`lastingCopy`).
 */
export const sharedReads: OnReadOpts = {
  buffer: bytes,
  // Node calls it as a method of the socket.
  callback(this: Socket, length: number) {
    return this.emit('data', Buffer.from(bytes.subarray(0, length)))
  },
}
