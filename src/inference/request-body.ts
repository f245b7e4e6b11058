import type { IncomingMessage } from 'node:http'
import { joined } from '../joined.ts'

/**
 * The whole body, or why there is none: larger than `bytesMax`, or cut off by a client that left or was too
 * slow (the listener's request timeout). Never holds more than `bytesMax` and one chunk; what a refused client
 * still sends is read and forgotten.
 */
export function readBody(
  incoming: IncomingMessage,
  { bytesMax }: { bytesMax: number },
): Promise<Buffer | 'too-large' | 'cut-off'> {
  if (Number(incoming.headers['content-length'] ?? 0) > bytesMax) return Promise.resolve('too-large')
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let length = 0
    incoming.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length > bytesMax) {
        chunks.length = 0
        resolve('too-large')
      } else {
        chunks.push(chunk)
      }
    })
    incoming.once('end', () => resolve(joined(chunks)))
    incoming.once('close', () => resolve('cut-off'))
  })
}
