import { z } from 'zod'
import type { Target } from '../directory/target.ts'
import type { HeaderList } from '../http1/headers.ts'
import { type Refusal, refusals } from './refusal.ts'
import type { UpstreamResponse } from './upstream.ts'

const bodyBytesMax = 64 * 1024

/** The error shapes of OpenAI-compatible servers: nested, flat (vLLM's older form), and FastAPI's own. */
const ErrorBody = z.union([
  z.object({
    error: z.object({
      message: z.string(),
      type: z.string().nullish(),
      code: z.union([z.string(), z.number()]).nullish(),
      param: z.string().nullish(),
    }),
  }),
  z
    .object({ message: z.string(), type: z.string().nullish(), code: z.union([z.string(), z.number()]).nullish() })
    .transform((error) => ({ error: { ...error, param: null } })),
  z
    .object({ detail: z.string() })
    .transform(({ detail }) => ({ error: { message: detail, type: null, code: null, param: null } })),
])

/**
 * What the client is told when upstream answered with anything but 200: its 4xx in the shape of the API called,
 * with the model by the name that the client knows; a 5xx, or what is no answer at all, as a bad gateway
 * (contract §11).
 */
export async function upstreamRefusal(
  { response, target }: { response: UpstreamResponse; target: Target },
  { slug }: { slug: string },
): Promise<Refusal> {
  const { status, headers } = response
  if (status < 400 || status >= 500) {
    response.discard()
    return refusals.upstreamFailed
  }
  const error = parseError(await readUpTo(response, bodyBytesMax))
  if (error !== null && quotesCredential(error.message, target)) {
    return {
      status,
      type: 'invalid_request_error',
      code: null,
      message: 'The model refused the request. Your API key is not the reason.',
      headers: retryHeaders(headers),
    }
  }
  return {
    status,
    type: error?.type ?? 'invalid_request_error',
    code: typeof error?.code === 'string' ? error.code : null,
    message: withPublicName(error?.message ?? 'The model refused the request.', { target, slug }),
    param: error?.param ?? null,
    headers: retryHeaders(headers),
  }
}

/** Providers that refuse a key tell its beginning. */
const quotedLength = 6

/** Whether the message is about the lab's own credential for this upstream, which is nobody else's affair. */
function quotesCredential(message: string, { credentialHeaders }: Target): boolean {
  return credentialHeaders
    .filter((_, index) => index % 2 === 1)
    .map((value) => value.slice(value.lastIndexOf(' ') + 1))
    .some((credential) => credential.length >= quotedLength && message.includes(credential.slice(0, quotedLength)))
}

/** Where upstream is, and its name for the model, are the lab's own affair. */
function withPublicName(message: string, { target, slug }: { target: Target; slug: string }): string {
  const withoutHost = message.replaceAll(hostPattern(target.origin), 'the model')
  return target.targetModel === null ? withoutHost : withoutHost.replaceAll(target.targetModel, slug)
}

/** The host in any case, with or without a port. One of a single label may be any word: only the whole word is it. */
function hostPattern(origin: string): RegExp {
  const name = new URL(origin).hostname.replace(/^\[|\]$/g, '')
  const isOneLabel = !/[.:]/.test(name)
  const before = isOneLabel ? '(?<![\\w.-])' : '(?<![\\w-])'
  const after = isOneLabel ? '(?![\\w-]|\\.\\w)' : '(?![\\w-])'
  return new RegExp(`${before}\\[?${RegExp.escape(name)}\\]?(?::\\d{1,5})?${after}`, 'gi')
}

function retryHeaders(headers: UpstreamResponse['headers']): HeaderList {
  const retryAfter = headers['retry-after']
  return typeof retryAfter === 'string' ? ['retry-after', retryAfter] : []
}

function parseError(body: Buffer): z.output<typeof ErrorBody>['error'] | null {
  try {
    return ErrorBody.parse(JSON.parse(body.toString('utf8'))).error
  } catch {
    return null
  }
}

/** The body, as far as it came and fits. */
function readUpTo(response: UpstreamResponse, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let length = 0
    const finish = () => resolve(Buffer.concat(chunks))
    response.readInto({
      data(chunk) {
        length += chunk.length
        if (length > bytesMax) response.abort()
        else chunks.push(chunk)
      },
      end: finish,
      error: finish,
    })
  })
}
