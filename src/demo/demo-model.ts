import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { z } from 'zod'
import { type Clock, sleep } from '../clock.ts'
import { chatRequest, completionRequest, embeddingsRequest, type TextRequest } from './demo-requests.ts'
import { embed, tokenize, writeAnswer } from './demo-writer.ts'

export interface DemoModelOptions {
  clock: Clock
  /** How fast it writes, also when the answer is sent in one piece. */
  tokensPerSecond?: number
  /** 0 takes a free one. */
  port?: number
}

export interface DemoModel extends AsyncDisposable {
  /** What a model's `base_url` is: it ends before `/chat/completions`. */
  baseUrl: string
}

/**
 * A model server for those who try the gateway without a GPU, on 127.0.0.1: chat completions, completions,
 * embeddings and models in OpenAI's format. It writes a few sentences about the prompt, counts its tokens, and stops
 * when the client goes away. It answers to any model name, and refuses what it cannot do (several choices, tool
 * calls on demand, structured output) instead of ignoring it.
 */
export async function startDemoModel({ clock, tokensPerSecond = 20, port = 0 }: DemoModelOptions): Promise<DemoModel> {
  const server = createServer((incoming, response) => {
    serve({ incoming, response, clock, tokenMs: 1000 / tokensPerSecond }).catch(() => response.destroy())
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  const address = server.address() as AddressInfo
  return {
    baseUrl: `http://127.0.0.1:${address.port}/v1`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

interface Call {
  response: ServerResponse
  clock: Clock
  tokenMs: number
}

const bodyBytesMax = 4 * 1024 * 1024

const routes: Record<string, (body: unknown, call: Call) => Promise<void> | void> = {
  'POST /v1/chat/completions': completeChat,
  'POST /v1/completions': completeText,
  'POST /v1/embeddings': createEmbeddings,
  'GET /v1/models': listModels,
}

async function serve({ incoming, ...call }: Call & { incoming: IncomingMessage }): Promise<void> {
  const { pathname } = new URL(incoming.url ?? '/', 'http://demo.invalid')
  const route = routes[`${incoming.method} ${pathname}`]
  const body = await readJson(incoming)
  if (route === undefined) refuse(call.response, 404, `There is no ${incoming.method} ${pathname}.`)
  else if (body === 'too large') refuse(call.response, 413, `The body is larger than ${bodyBytesMax} bytes.`)
  else if (body === 'malformed') refuse(call.response, 400, 'The body is not JSON.')
  else await route(body.json, call)
}

/** Reads all of the body, also of one it refuses, so that the client gets to hear why. */
async function readJson(incoming: IncomingMessage): Promise<{ json: unknown } | 'too large' | 'malformed'> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of incoming) {
    bytes += part.length
    if (bytes <= bodyBytesMax) parts.push(part)
  }
  if (bytes > bodyBytesMax) return 'too large'
  if (bytes === 0) return { json: {} }
  try {
    return { json: JSON.parse(Buffer.concat(parts).toString('utf8')) }
  } catch {
    return 'malformed'
  }
}

async function completeChat(body: unknown, call: Call): Promise<void> {
  const request = chatRequest.safeParse(body)
  if (!request.success) return refuseBody(call.response, request.error)
  const { messages, max_completion_tokens: tokensMax, max_tokens: olderTokensMax } = request.data
  const question = messages.findLast(({ role }) => role === 'user') ?? messages.at(-1)
  await generate(call, {
    ...request.data,
    format: chatFormat,
    prompt: messages.map((message) => message.content ?? '').join('\n'),
    question: question?.content ?? '',
    tokensMax: tokensMax ?? olderTokensMax ?? Number.POSITIVE_INFINITY,
  })
}

async function completeText(body: unknown, call: Call): Promise<void> {
  const request = completionRequest.safeParse(body)
  if (!request.success) return refuseBody(call.response, request.error)
  const { prompt, max_tokens: tokensMax } = request.data
  // OpenAI's completions, unlike its chat completions, end after 16 tokens unless told otherwise.
  await generate(call, {
    ...request.data,
    format: completionFormat,
    prompt,
    question: prompt,
    tokensMax: tokensMax ?? 16,
  })
}

type FinishReason = 'stop' | 'length'

/** Where chat completions and completions differ on the wire. */
interface TextFormat {
  idPrefix: string
  object: string
  chunkObject: string
  whole(text: string, finish: FinishReason): object
  /** Choices of the first chunk of a stream, if it has one before the first token. */
  opening: object[]
  piece(text: string): object
  ending(finish: FinishReason): object
}

const chatFormat: TextFormat = {
  idPrefix: 'chatcmpl-',
  object: 'chat.completion',
  chunkObject: 'chat.completion.chunk',
  whole: (text, finish) => ({ message: { role: 'assistant', content: text, refusal: null }, finish_reason: finish }),
  opening: [{ delta: { role: 'assistant', content: '' }, finish_reason: null }],
  piece: (text) => ({ delta: { content: text }, finish_reason: null }),
  ending: (finish) => ({ delta: {}, finish_reason: finish }),
}

const completionFormat: TextFormat = {
  idPrefix: 'cmpl-',
  object: 'text_completion',
  chunkObject: 'text_completion',
  whole: (text, finish) => ({ text, finish_reason: finish }),
  opening: [],
  piece: (text) => ({ text, finish_reason: null }),
  ending: (finish) => ({ text: '', finish_reason: finish }),
}

interface Generation extends TextRequest {
  format: TextFormat
  /** All that the model is given to read; it is counted. */
  prompt: string
  /** The part of it that is answered. */
  question: string
  tokensMax: number
}

async function generate({ response, clock, tokenMs }: Call, generation: Generation): Promise<void> {
  const { format, model, prompt, question, tokensMax, stop, stream, stream_options: streamOptions } = generation
  const gone = new AbortController()
  response.once('close', () => gone.abort())

  const wanted = tokenize(upToFirst(stop ?? [], writeAnswer(question)))
  const tokens = wanted.slice(0, tokensMax)
  const finish = tokens.length < wanted.length ? 'length' : 'stop'
  const usage = usageOf(tokenize(prompt).length, tokens.length)
  const head = { id: `${format.idPrefix}${randomUUID()}`, created: Math.floor(clock.now() / 1000), model }
  const choice = (members: object) => ({ index: 0, logprobs: null, ...members })

  if (!stream) {
    await sleep(clock, tokenMs * tokens.length, gone.signal)
    if (gone.signal.aborted) return
    const choices = [choice(format.whole(tokens.join(''), finish))]
    return sendJson(response, 200, { ...head, object: format.object, choices, usage })
  }

  const includeUsage = streamOptions?.include_usage === true
  const send = (choices: object[], chunkUsage: object | null = null) => {
    const chunk = { ...head, object: format.chunkObject, choices, ...(includeUsage ? { usage: chunkUsage } : {}) }
    response.write(`data: ${JSON.stringify(chunk)}\n\n`)
  }
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' })
  for (const opening of format.opening) send([choice(opening)])
  for (const token of tokens) {
    await sleep(clock, tokenMs, gone.signal)
    if (gone.signal.aborted) return
    send([choice(format.piece(token))])
  }
  send([choice(format.ending(finish))])
  if (includeUsage) send([], usage)
  response.end('data: [DONE]\n\n')
}

function upToFirst(stops: readonly string[], text: string): string {
  const places = stops.map((stop) => text.indexOf(stop)).filter((place) => place >= 0)
  return text.slice(0, Math.min(text.length, ...places))
}

function usageOf(promptTokens: number, completionTokens: number): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: 0 },
  }
}

function createEmbeddings(body: unknown, { response }: Call): void {
  const request = embeddingsRequest.safeParse(body)
  if (!request.success) {
    refuseBody(response, request.error)
    return
  }
  const { model, input, dimensions, encoding_format: encoding } = request.data
  const data = input.map((text, index) => {
    const vector = embed(text, dimensions)
    return { object: 'embedding', index, embedding: encoding === 'float' ? vector : base64Floats(vector) }
  })
  const promptTokens = input.reduce((sum, text) => sum + tokenize(text).length, 0)
  sendJson(response, 200, {
    object: 'list',
    data,
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  })
}

function base64Floats(vector: readonly number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString('base64')
}

function listModels(_body: unknown, { response, clock }: Call): void {
  const created = Math.floor(clock.now() / 1000)
  sendJson(response, 200, { object: 'list', data: [{ id: 'parrot-1', object: 'model', created, owned_by: 'demo' }] })
}

function refuseBody(response: ServerResponse, error: z.ZodError): void {
  const [issue] = error.issues
  refuse(response, 400, issue?.message ?? 'The body is not valid.', issue?.path.join('.') || null)
}

function refuse(response: ServerResponse, status: number, message: string, param: string | null = null): void {
  sendJson(response, status, { error: { message, type: 'invalid_request_error', param, code: null } })
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  const json = JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(json) })
  response.end(json)
}
