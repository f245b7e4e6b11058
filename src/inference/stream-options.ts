import { type Edit, MemberNames, NewMember, type ScannedObject, scanJsonObject } from './json-scan.ts'
import type { Span } from './json-text.ts'
import { ambiguousName, malformedRequest, type Refusal } from './refusal.ts'

/** What a request's `stream_options` come to. */
export interface StreamOptions {
  /** Whether the client asks for the chunk that carries a stream's usage. */
  includesUsage: boolean
  /** Has upstream send that chunk, and leaves all else as the client said it; null where the client asks for it. */
  withUsage: Edit | null
}

/** Of a request for no stream; what it says of one is upstream's to judge. */
export const noStreamOptions: StreamOptions = { includesUsage: false, withUsage: null }

/**
 * Reads them as strictly as the members of the body itself: what upstream could read otherwise would have it send a
 * stream without the usage that is billed.
 */
export function readStreamOptions(
  body: Buffer,
  request: ScannedObject<'stream_options'>,
): StreamOptions | { refusal: Refusal } {
  const span = request.members.stream_options
  if (span === undefined) return without(optionsWithUsage.appendedTo(request))
  const bytes = body.subarray(span.start, span.end)
  if (bytes.equals(nullText)) return without({ ...span, replacement: onlyUsage })

  const options = scanJsonObject(bytes, optionNames)
  if (!options.ok) {
    const isAmbiguous = options.reason === 'ambiguous-name'
    return { refusal: isAmbiguous ? ambiguousName(usageName) : notValid('stream_options', 'a JSON object') }
  }
  const { include_usage } = options.members
  if (include_usage === undefined) return without(moved(usageOption.appendedTo(options), span))
  switch (bytes.toString('utf8', include_usage.start, include_usage.end)) {
    case 'true':
      return { includesUsage: true, withUsage: null }
    case 'false':
    case 'null':
      return without(moved({ ...include_usage, replacement: trueText }, span))
    default:
      return { refusal: notValid(usageName, 'true or false') }
  }
}

const optionNames = new MemberNames(['include_usage'])
const usageName = 'stream_options.include_usage'
const onlyUsage = Buffer.from('{"include_usage":true}')
const optionsWithUsage = new NewMember('stream_options', onlyUsage.toString())
const usageOption = new NewMember('include_usage', 'true')
const trueText = Buffer.from('true')
const nullText = Buffer.from('null')

function without(withUsage: Edit): StreamOptions {
  return { includesUsage: false, withUsage }
}

/** An edit of a part of the body, as one of the body. */
function moved({ start, end, replacement }: Edit, part: Span): Edit {
  return { start: part.start + start, end: part.start + end, replacement }
}

function notValid(name: string, expected: string): Refusal {
  return malformedRequest(`\`${name}\` must be ${expected}.`, name)
}
