import { anthropicMessages } from './anthropic-messages.ts'
import type { Api } from './api.ts'
import type { Exchange } from './exchange.ts'
import { modelList } from './model-list.ts'
import { openaiChat } from './openai-chat.ts'
import { openaiCompletions } from './openai-completions.ts'
import { openaiEmbeddings } from './openai-embeddings.ts'
import { openaiResponses } from './openai-responses.ts'
import { refuse } from './refuse.ts'
import { composeReply, type Reply } from './reply.ts'
import type { RefusalTrouble, Trouble } from './script.ts'
import { sendAnswer } from './send-answer.ts'
import { sendStream } from './send-stream.ts'

const apis: Record<string, Api> = {
  'POST /v1/chat/completions': openaiChat,
  'POST /v1/completions': openaiCompletions,
  'POST /v1/embeddings': openaiEmbeddings,
  'POST /v1/responses': openaiResponses,
  'POST /v1/messages': anthropicMessages,
  'GET /v1/models': modelList,
}

/** Answers one request in the form of the API that its path names, as its script says. */
export async function answer(exchange: Exchange): Promise<void> {
  const { request, script } = exchange
  const { trouble } = script
  const api = apis[`${request.method} ${request.path}`]
  const shape = api?.errorShape ?? 'openai'

  if (trouble !== undefined && isRefusal(trouble)) return refuse(exchange, trouble, shape)
  if (api === undefined) return refuse(exchange, { kind: 'error', status: 404, message: 'Not Found' }, shape)
  const fault = api.fault(request.body)
  if (fault !== null) return refuse(exchange, { kind: 'error', status: 400, message: fault }, shape)

  const asked = api.read(request.body)
  const reply = composeReply(request, asked, script)
  const frames = asked.stream && api.stream !== null ? api.stream(reply) : null
  if (trouble !== undefined) assertInPlace(trouble, reply, frames === null ? 'answer' : 'stream')
  if (frames === null) await sendAnswer(exchange, reply, api.answer(reply))
  else await sendStream(exchange, reply, frames)
}

/** Where a trouble can strike: instead of any answer, in either kind of answer, in one piece or in a stream. */
const troublePlace = {
  error: 'instead',
  redirect: 'instead',
  'hang-up': 'instead',
  'garbage-http': 'instead',
  'hang-before-headers': 'instead',
  'hang-after-headers': 'instead',
  stall: 'either',
  cut: 'either',
  'garbage-json': 'answer',
  'wrong-length': 'answer',
  'stall-midway': 'answer',
  stop: 'stream',
  unterminated: 'stream',
  'error-frame': 'stream',
  'garbage-frame': 'stream',
} satisfies Record<Trouble['kind'], 'instead' | 'either' | 'answer' | 'stream'>

function isRefusal(trouble: Trouble): trouble is RefusalTrouble {
  return troublePlace[trouble.kind] === 'instead'
}

/** A trouble that could never strike would make a test pass for nothing. */
function assertInPlace(trouble: Trouble, reply: Reply, place: 'answer' | 'stream'): void {
  const needed = troublePlace[trouble.kind]
  if (needed !== 'either' && needed !== place)
    throw new Error(`'${trouble.kind}' has no place in ${place === 'stream' ? 'a stream' : 'an answer in one piece'}`)
  if ('afterChunks' in trouble && trouble.afterChunks > reply.chunkCount)
    throw new Error(`the answer ends after ${reply.chunkCount} chunks, before its trouble`)
}
