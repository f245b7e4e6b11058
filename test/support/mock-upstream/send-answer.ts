import { gzipSync } from 'node:zlib'
import { answerHeaders, compressed, cut, type Exchange } from './exchange.ts'
import { paceOf } from './pace.ts'
import { type Reply, tokensAfter } from './reply.ts'

/** Sends the answer in one piece, once all of its tokens have been produced. */
export async function sendAnswer(exchange: Exchange, reply: Reply, answer: object): Promise<void> {
  const { request, response, script } = exchange
  const { trouble } = script
  if (trouble?.kind === 'stall' || trouble?.kind === 'cut') await produce(exchange, reply, trouble.afterChunks)
  else await produce(exchange, reply, reply.chunkCount)
  if (request.progress.state !== 'open' || trouble?.kind === 'stall') return

  const json = trouble?.kind === 'garbage-json' ? '{"id": "mock", "choices": [' : JSON.stringify(answer)
  const zipped = compressed(exchange)
  const body = zipped ? gzipSync(json) : Buffer.from(json)
  const promisedBytes = body.length + (trouble?.kind === 'wrong-length' ? trouble.differenceBytes : 0)
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': promisedBytes,
    ...(zipped ? { 'content-encoding': 'gzip' } : {}),
    ...answerHeaders(exchange),
  })
  const breaks = trouble?.kind === 'cut' || promisedBytes > body.length
  const isHalf = trouble?.kind === 'cut' || trouble?.kind === 'stall-midway'
  const sent = isHalf ? body.subarray(0, body.length / 2) : body
  request.progress.bytesTaken(sent.length)
  if (trouble?.kind === 'stall-midway') response.write(sent)
  else if (breaks) response.write(sent, () => cut(exchange))
  else response.end(sent)
}

/** A model that works until its answer is whole: its client hears nothing meanwhile. */
async function produce({ request, ...exchange }: Exchange, reply: Reply, chunks: number): Promise<void> {
  const { progress } = request
  const pace = paceOf({ request, ...exchange })
  await pace.opening()
  progress.opened()
  for (let chunk = 0; chunk < chunks; chunk++) {
    await pace.chunk()
    if (progress.state !== 'open') return
    progress.tokensProduced(tokensAfter(reply, chunk + 1))
    progress.chunkDone()
  }
  if (chunks === reply.chunkCount) await pace.closing()
}
