import type { InboundRequest } from '../inbound/request.ts'
import { requestTokensMax } from '../token-bounds.ts'
import type { Api } from './api.ts'
import { type Edit, MemberNames, membersOf, type ScannedObject, scalarAt, scanJsonObject } from './json-scan.ts'
import type { Span } from './json-text.ts'
import { readOutputBound } from './output-bound.ts'
import { estimatePromptTokens } from './prompt-estimate.ts'
import { ambiguousName, malformedRequest, type Refusal, refusals } from './refusal.ts'
import { noStreamOptions, readStreamOptions } from './stream-options.ts'

/** An inference request, as far as the gateway has to understand it; the rest stays bytes. */
export interface InferenceRequest {
  slug: string
  body: Buffer
  scanned: ScannedObject<Member>
  isStream: boolean
  /** Whether the client itself asked for the chunk that carries a stream's usage. */
  showsUsage: boolean
  /** Has upstream send that chunk; null where it does so anyhow, or need not. */
  usageEdit: Edit | null
  /** What its prompt is estimated at. */
  promptTokens: number
  /** The prompt plus the largest output declared, in tokens, as far as counters can take them (contract §12). */
  tokensToReserve: number
  /** The body's `metadata`, as JSON text. */
  metadata: string | null
}

export type Reading = { accepted: true; request: InferenceRequest } | { accepted: false; refusal: Refusal }

const members = new MemberNames([
  'model',
  'stream',
  'stream_options',
  'n',
  'best_of',
  'metadata',
  'messages',
  'tools',
  'prompt',
  'input',
  'instructions',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
])
export type Member = typeof members extends MemberNames<infer Name> ? Name : never

const metadataBytesMax = 16 * 1024

/** Reads one request's body and finds in it what the gateway needs, without parsing the prompt. */
export async function readRequest(
  incoming: InboundRequest,
  { api, bodyBytesMax }: { api: Api; bodyBytesMax: number },
): Promise<Reading> {
  if (isEncoded(incoming)) {
    return refused(malformedRequest('The request body must not be compressed.'))
  }
  const body = await incoming.body({ bytesMax: bodyBytesMax })
  if (body === 'too-large') return refused(refusals.bodyTooLarge)
  if (body === 'cut-off') return refused(malformedRequest('The request body ended early.'))

  const scanned = scanJsonObject(body, members)
  if (!scanned.ok) {
    return refused(
      scanned.reason === 'ambiguous-name' ? ambiguousName(scanned.name) : malformedRequest(unreadable[scanned.reason]),
    )
  }
  const value = (name: Member): unknown => scalarAt(body, scanned.members[name])

  const slug = value('model')
  if (typeof slug !== 'string' || slug === '') {
    return refused(malformedRequest('`model` must be the name of a model.', 'model'))
  }
  const metadata = readMetadata(body, scanned.members.metadata)
  if (metadata === 'invalid') {
    return refused(malformedRequest('`metadata` must be a JSON object of at most 16 KiB.', 'metadata'))
  }
  const isStream = value('stream') ?? false
  // Many servers take 1, "true" and "on" for true: they would stream without being asked for the usage.
  if (typeof isStream !== 'boolean') return refused(malformedRequest('`stream` must be true or false.', 'stream'))
  const options = isStream ? readStreamOptions(body, scanned) : noStreamOptions
  if ('refusal' in options) return refused(options.refusal)
  const output = readOutputBound(body, scanned, api)
  if ('refusal' in output) return refused(output.refusal)
  const promptTokens = Math.min(requestTokensMax, estimatePromptTokens(body, membersOf(scanned, api.promptMembers)))
  return {
    accepted: true,
    request: {
      slug,
      body,
      scanned,
      isStream,
      showsUsage: options.includesUsage,
      usageEdit: api.usageOnRequest ? options.withUsage : null,
      promptTokens,
      tokensToReserve: Math.min(requestTokensMax, promptTokens + Math.ceil(output.tokens)),
      metadata,
    },
  }
}

/** RFC 9110 §8.4.1: `identity` says that there is no encoding, and names of codings know no letter case. */
function isEncoded({ headers }: InboundRequest): boolean {
  const codings = headers['content-encoding']
  return codings?.split(',').some((coding) => coding.trim().toLowerCase() !== 'identity') ?? false
}

const unreadable = {
  'not-json': 'The request body is not valid JSON.',
  'not-object': 'The request body must be a JSON object.',
  'too-deep': 'The request body is nested too deeply.',
  'too-many-members': 'The request body has more than 1,000 members.',
}

function refused(refusal: Refusal): Reading {
  return { accepted: false, refusal }
}

function readMetadata(body: Buffer, span: Span | undefined): string | null | 'invalid' {
  if (span === undefined) return null
  if (span.end - span.start > metadataBytesMax) return 'invalid'
  const text = body.toString('utf8', span.start, span.end)
  if (text === 'null') return null
  return text.startsWith('{') ? text : 'invalid'
}
