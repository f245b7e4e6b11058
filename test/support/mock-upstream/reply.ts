import type { Asked } from './asked.ts'
import { asRecord } from './read-json.ts'
import type { RecordedRequest } from './recorded-request.ts'
import { schemaExample } from './schema-example.ts'
import type { Script, UsageReport } from './script.ts'

/** What the model says to one request, before any API gives it its form. Deterministic: same request, same reply. */
export interface Reply {
  request: RecordedRequest
  asked: Asked
  model: string
  parts: readonly Part[]
  /** Chunks of all parts together; a chunk is one piece of one part, for every choice. */
  chunkCount: number
  finish: 'stop' | 'length' | 'tool-calls'
  /** What the model really spent, over all choices. */
  tokens: Tokens
  usageReport: UsageReport
}

export type Part =
  | { kind: 'text'; text: string; pieces: readonly string[] }
  | { kind: 'tool-call'; id: string; name: string; input: Record<string, unknown>; pieces: readonly string[] }

export interface Tokens {
  prompt: number
  cached: number
  cacheWrite: number
  completion: number
  reasoning: number
}

export function composeReply(request: RecordedRequest, asked: Asked, script: Script): Reply {
  const { parts, finish } = compose(request, asked, script)
  return {
    request,
    asked,
    model: script.model ?? asked.model,
    parts,
    chunkCount: parts.reduce((sum, part) => sum + part.pieces.length, 0),
    finish,
    tokens: {
      prompt: script.promptTokens ?? words(asked.prompt).length,
      cached: script.cachedTokens ?? 0,
      cacheWrite: script.cacheWriteTokens ?? 0,
      completion: script.completionTokens ?? asked.choices * words(parts.map(partText).join(' ')).length,
      reasoning: script.reasoningTokens ?? 0,
    },
    usageReport: script.usage ?? 'as-asked',
  }
}

/** The completion tokens spent when so many chunks have been produced. */
export function tokensAfter(reply: Reply, chunks: number): number {
  if (reply.chunkCount === 0) return reply.tokens.completion
  return Math.round((reply.tokens.completion * chunks) / reply.chunkCount)
}

/** What the answer says was spent, after all chunks or after so many. */
export function reportedTokens(reply: Reply, chunks = reply.chunkCount): Tokens {
  if (reply.usageReport === 'zero') return everyFigure(0)
  if (reply.usageReport === 'negative') return everyFigure(-1)
  return { ...reply.tokens, completion: tokensAfter(reply, chunks) }
}

function everyFigure(tokens: number): Tokens {
  return { prompt: tokens, cached: tokens, cacheWrite: tokens, completion: tokens, reasoning: tokens }
}

/** The piece that a chunk carries, and where it stands. */
export function pieceAt(reply: Reply, chunk: number): { part: Part; partIndex: number; piece: string; first: boolean } {
  let before = 0
  for (const [partIndex, part] of reply.parts.entries()) {
    const piece = part.pieces[chunk - before]
    if (piece !== undefined) return { part, partIndex, piece, first: chunk === before }
    before += part.pieces.length
  }
  throw new RangeError(`The reply has no chunk ${chunk}.`)
}

/** The text of the reply without its tool calls. */
export function replyText(reply: Reply): string {
  return reply.parts.map((part) => (part.kind === 'text' ? part.text : '')).join('')
}

/** Some words, the same for the same prompt. */
export function wordsAbout(prompt: string, count: number): string {
  const start = [...prompt].reduce((sum, character) => sum + (character.codePointAt(0) ?? 0), 0)
  return Array.from({ length: count }, (_, index) => vocabulary[(start + index) % vocabulary.length]).join(' ')
}

const vocabulary = ['the', 'river', 'runs', 'past', 'seven', 'quiet', 'mills', 'and', 'turns', 'every', 'wheel']

function compose(request: RecordedRequest, asked: Asked, script: Script): { parts: Part[]; finish: Reply['finish'] } {
  if (asked.choices === 0) return { parts: [], finish: 'stop' }
  const calls = script.toolCalls ?? toolCallsFor(asked)
  if (calls.length > 0) {
    const preamble = script.text === undefined ? [] : [textPart(script.text, script.chunks)]
    const toolParts = calls.map(({ name, input }, index): Part => {
      const id = `${String(request.index).padStart(8, '0')}${String(index).padStart(8, '0')}`
      return { kind: 'tool-call', id, name, input, pieces: split(JSON.stringify(input), script.chunks ?? 3) }
    })
    return { parts: [...preamble, ...toolParts], finish: 'tool-calls' }
  }
  if (script.text === undefined && asked.outputSchema !== null)
    return { parts: [textPart(JSON.stringify(schemaExample(asked.outputSchema)), script.chunks ?? 4)], finish: 'stop' }

  const text = script.text ?? wordsAbout(asked.prompt, script.chunks ?? 9)
  const wordsMax = script.completionTokens === undefined ? asked.outputTokensMax : null
  if (wordsMax === null || wordsMax >= words(text).length)
    return { parts: [textPart(text, script.chunks)], finish: 'stop' }
  return { parts: [textPart(words(text).slice(0, wordsMax).join(' '), undefined)], finish: 'length' }
}

/** The tool that must be called, or that the prompt names; no second call once the first has its result. */
function toolCallsFor(asked: Asked): { name: string; input: Record<string, unknown> }[] {
  const { toolChoice, tools } = asked
  if (asked.continuesToolCall || toolChoice === 'none') return []
  const wanted = tools.find(({ name }) =>
    typeof toolChoice === 'object'
      ? name === toolChoice.name
      : toolChoice === 'required' || asked.prompt.includes(name),
  )
  return wanted === undefined ? [] : [{ name: wanted.name, input: asRecord(schemaExample(wanted.inputSchema)) }]
}

function textPart(text: string, chunks: number | undefined): Part {
  return { kind: 'text', text, pieces: split(text, chunks ?? words(text).length) }
}

function partText(part: Part): string {
  return part.kind === 'text' ? part.text : JSON.stringify(part.input)
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}

/** Exactly so many pieces which together are the text, cut between words where there are enough of them. */
function split(text: string, pieces: number): string[] {
  const wordsWithSpace = text.split(/(?<=\s)(?=\S)/)
  const units = wordsWithSpace.length >= pieces ? wordsWithSpace : [...text]
  const start = (piece: number) => Math.floor((units.length * piece) / pieces)
  return Array.from({ length: pieces }, (_, piece) => units.slice(start(piece), start(piece + 1)).join(''))
}
