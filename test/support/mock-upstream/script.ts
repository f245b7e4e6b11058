import type { OutgoingHttpHeaders } from 'node:http'
import type { RecordedRequest } from './recorded-request.ts'

/**
 * How the upstream answers: what it says, how it sends it, what goes wrong. All of it may be left out: the answer
 * then fits the request, and one word is one token.
 */
export interface Script {
  /** The answer's text. Beside `toolCalls` it is what the model says before it calls. Default: made from the prompt. */
  text?: string
  /** The tools called, whatever the request asks for. */
  toolCalls?: readonly { name: string; input: Record<string, unknown> }[]
  /** Deltas in which a stream sends each part of the answer (the text, each tool call). Default: one a word. */
  chunks?: number
  /** The name that the answer gives its model. Default: the one requested. */
  model?: string
  /** Tokens of the prompt, cached ones included. Default: the words of the prompt. */
  promptTokens?: number
  /** Tokens of the prompt read from a cache, and written to one. Default: 0. */
  cachedTokens?: number
  cacheWriteTokens?: number
  /** Tokens of the answer, over all choices; given, no declared maximum cuts them. Default: the words of the answer. */
  completionTokens?: number
  /** How many of the completion tokens were reasoning. Default: 0. */
  reasoningTokens?: number
  usage?: UsageReport
  pace?: Pace
  framing?: Framing
  /** Headers of the answer, beside the usual ones. */
  headers?: OutgoingHttpHeaders
  /** Compresses the answer for a client that accepts it. Default: `none`. */
  compression?: 'none' | 'gzip'
  trouble?: Trouble
}

/** A script, or one that is chosen by the request; `request.index` counts from 0. */
export type ScriptSource = Script | ((request: RecordedRequest) => Script)

/**
 * When usage is reported: `as-asked` by the request, `always` (in a stream also unasked), `never`, `every-chunk` (as
 * vLLM's continuous_usage_stats), `with-finish` (in the chunk that carries the finish reason), `zero` and `negative` (as
 * asked, but every figure is 0, or -1). The two about chunks concern streams of chat completions and completions.
 */
export type UsageReport = 'as-asked' | 'always' | 'never' | 'every-chunk' | 'with-finish' | 'zero' | 'negative'

/**
 * How fast the answer is produced: at once (back-pressure is honoured), a chunk every so often, or when the test says
 * so with the request's `release` and `finish`.
 */
export type Pace = 'at-once' | 'manual' | { chunkDelayMs: number }

/** How the frames of a stream become bytes, and the bytes become writes. */
export interface Framing {
  lineEnd?: '\n' | '\r\n' | '\r'
  /** What stands between `data:` and the value. */
  afterColon?: ' ' | ''
  /** A comment line sent before every frame. */
  comment?: string
  /** Frames joined in one write. Default: 1. */
  framesPerWrite?: number
  /** Sizes of the writes, over and over: frames are cut wherever they fall. Default: not cut. */
  writeBytes?: readonly number[]
}

export type Trouble = RefusalTrouble | ProductionTrouble | JsonTrouble | StreamTrouble

/** No answer of the usual kind at all. */
export type RefusalTrouble =
  /** An error in the API's own shape, in the other one's, or with a body of the test's; a string is sent as HTML. */
  | {
      kind: 'error'
      status: number
      message?: string
      shape?: 'openai' | 'anthropic'
      body?: string | object
      headers?: OutgoingHttpHeaders
    }
  | { kind: 'redirect'; location: string; status?: 301 | 302 | 307 | 308 }
  /** The connection is closed once the request has been read. */
  | { kind: 'hang-up' }
  | { kind: 'garbage-http' }
  | { kind: 'hang-before-headers' }
  | { kind: 'hang-after-headers' }

/** The answer begins, and is not finished: after so many chunks' worth of tokens have been produced. */
export type ProductionTrouble =
  /** Production stands still; the connection stays. */
  | { kind: 'stall'; afterChunks: number }
  /** The connection breaks, between two frames or within the next one; a JSON answer breaks in its middle. */
  | { kind: 'cut'; afterChunks: number; where?: 'between-frames' | 'mid-frame' }

/** Troubles of an answer in one piece. */
export type JsonTrouble =
  | { kind: 'garbage-json' }
  /** Content-Length is off by so many bytes: negative says too little, positive promises bytes that never come. */
  | { kind: 'wrong-length'; differenceBytes: number }
  /** Half of it is sent; then nothing comes, and the connection stays. */
  | { kind: 'stall-midway' }

/** Troubles of a stream. */
export type StreamTrouble =
  /** The body ends in good order, and the answer is not complete: no finish reason, no usage, no last frame. */
  | { kind: 'stop'; afterChunks: number }
  /** Everything is sent but the frame that says it was all: `[DONE]`, `message_stop` or `response.completed`. */
  | { kind: 'unterminated' }
  /** The server fails, says so in a frame and ends the body. */
  | { kind: 'error-frame'; afterChunks: number; message?: string }
  /** A frame whose data is no JSON; the stream then goes on. */
  | { kind: 'garbage-frame'; afterChunks: number }
