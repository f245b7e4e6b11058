import { jsonBytes, type Span } from './json-text.ts'

/**
 * About how many tokens a prompt has, for the reservation at admission (contract §12); the real figure replaces it
 * when the request is settled. A token for every four bytes of the members that make up the prompt, JSON and all,
 * and a flat figure for each payload in base64, whose size says nothing; for a prompt of token ids, as completions and
 * embeddings take it, their number; at least 1.
 *
 * Of text only one byte in a thousand is looked at: payloads are long, and to search for them would cost as much as the
 * whole scan of the body (0.5 ns a byte). 200 kB take 2 µs.
 */
export function estimatePromptTokens(bytes: Buffer, members: readonly Span[]): number {
  let textBytes = 0
  let payloads = 0
  let tokenIds = 0
  for (const member of members) {
    if (!hasText(bytes, member)) {
      tokenIds += idsIn(bytes, member)
      continue
    }
    textBytes += member.end - member.start
    for (const payload of payloadsIn(bytes, member)) {
      textBytes -= payload.end - payload.start
      payloads++
    }
  }
  return Math.max(1, estimateTextTokens(textBytes) + payloads * tokensPerPayload + tokenIds)
}

/** About how many tokens so many bytes of text have: right for English. */
export function estimateTextTokens(bytes: number): number {
  return Math.ceil(bytes / bytesPerToken)
}

function hasText(bytes: Buffer, { start, end }: Span): boolean {
  const at = bytes.indexOf(jsonBytes.quote, start)
  return at !== -1 && at < end
}

/** The numbers in a list, or in lists within one: one more than there are commas. Empty lists count a little too much. */
function idsIn(bytes: Buffer, { start, end }: Span): number {
  if (bytes[start] !== jsonBytes.openBracket) return 0
  let ids = 1
  for (let at = start; at < end; at++) if (bytes[at] === jsonBytes.comma) ids++
  return ids
}

const bytesPerToken = 4
/** About an image of one megapixel, with any of the large providers. */
const tokensPerPayload = 1_000
/** Payloads shorter than this may go unnoticed and count as text. */
const strideBytes = 1_024
const windowBytes = 16

/** The strings that hold data in base64: `data:` URLs, and members named `data`. */
function* payloadsIn(bytes: Buffer, { start, end }: Span): Generator<Span> {
  for (let at = start + strideBytes; at < end; at += strideBytes) {
    if (!looksLikeBase64(bytes, at)) continue
    const stringStart = bytes.lastIndexOf(jsonBytes.quote, at) + 1
    const stringEnd = bytes.indexOf(jsonBytes.quote, at)
    if (stringEnd === -1) return
    if (isPayload(bytes, stringStart)) yield { start: stringStart, end: stringEnd }
    // Each string is judged once: what is no payload at its start is text to its end.
    at = stringEnd
  }
}

function looksLikeBase64(bytes: Buffer, start: number): boolean {
  for (let at = start; at < start + windowBytes; at++) if (!isBase64(bytes[at] ?? 0)) return false
  return true
}

function isPayload(bytes: Buffer, stringStart: number): boolean {
  const before = bytes.toString('latin1', Math.max(0, stringStart - 24), stringStart)
  const head = bytes.toString('latin1', stringStart, stringStart + 128)
  return /"(?:file_)?data"\s*:\s*"$/.test(before) || /^data:[^,]*;base64,/.test(head)
}

/** Both alphabets, the padding, and the backslash that some encoders put before a slash. */
function isBase64(byte: number): boolean {
  const lowerCase = byte | 0x20
  return (
    (lowerCase >= 0x61 && lowerCase <= 0x7a) ||
    (byte >= 0x2f && byte <= 0x39) ||
    byte === 0x2b ||
    byte === 0x2d ||
    byte === 0x3d ||
    byte === 0x5c ||
    byte === 0x5f
  )
}
