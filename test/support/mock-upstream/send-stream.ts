import type { StreamFrames } from './api.ts'
import { EventStreamWriter } from './event-stream-writer.ts'
import { cut, type Exchange } from './exchange.ts'
import { paceOf } from './pace.ts'
import { type Reply, tokensAfter } from './reply.ts'

/** Sends the answer as a stream of events, chunk by chunk, as fast as its pace and the client allow. */
export async function sendStream(exchange: Exchange, reply: Reply, frames: StreamFrames): Promise<void> {
  const { request, script } = exchange
  const { progress } = request
  const pace = paceOf(exchange)

  await pace.opening()
  if (progress.state !== 'open') return
  const writer = new EventStreamWriter(exchange)
  await writer.write(frames.opening)
  progress.opened()

  for (let chunk = 0; chunk < reply.chunkCount; chunk++) {
    if ((await interrupt({ exchange, reply, frames, writer, chunk })) === 'ended') return
    await pace.chunk()
    if (progress.state !== 'open') return
    progress.tokensProduced(tokensAfter(reply, chunk + 1))
    await writer.write(frames.chunk(chunk))
    progress.chunkDone()
  }
  if ((await interrupt({ exchange, reply, frames, writer, chunk: reply.chunkCount })) === 'ended') return

  await pace.closing()
  if (progress.state !== 'open') return
  const closing = frames.closing()
  await writer.write(script.trouble?.kind === 'unterminated' ? closing.slice(0, -1) : closing)
  await writer.end()
}

interface Point {
  exchange: Exchange
  reply: Reply
  frames: StreamFrames
  writer: EventStreamWriter
  /** Chunks sent until now; the next one has this index. */
  chunk: number
}

/** The script's trouble, if its place is here. */
async function interrupt({ exchange, reply, frames, writer, chunk }: Point): Promise<'goes-on' | 'ended'> {
  const { trouble } = exchange.script
  if (trouble === undefined || !('afterChunks' in trouble) || trouble.afterChunks !== chunk) return 'goes-on'

  switch (trouble.kind) {
    case 'garbage-frame':
      await writer.write([{ data: '{"choices": [{"delta": ' }])
      return 'goes-on'
    case 'stall':
      await writer.flush()
      return 'ended'
    case 'cut': {
      const next = chunk < reply.chunkCount ? frames.chunk(chunk) : frames.closing()
      if (trouble.where === 'mid-frame') await writer.writeHalf(next)
      else await writer.flush()
      cut(exchange)
      return 'ended'
    }
    case 'stop':
      await writer.end()
      return 'ended'
    case 'error-frame':
      await writer.write(frames.failure(trouble.message ?? 'The model has failed.'))
      await writer.end()
      return 'ended'
  }
}
