import type { Target } from '../directory/target.ts'
import type { InboundRequest } from '../inbound/request.ts'
import type { OutboundRequest } from '../outbound/connection.ts'
import type { Api } from './api.ts'
import { appendMember, type Edit, pieces } from './json-scan.ts'
import type { InferenceRequest } from './request.ts'

/** What of the client's headers goes upstream. All else stays: its key, cookies, hop-by-hop headers (contract §11). */
const forwardedHeaders = ['accept', 'traceparent', 'tracestate', 'openai-beta']

/** The request as `target` gets it: its own name for the model, the lab's credential, the prompt untouched. */
export function upstreamRequest(
  request: InferenceRequest,
  { target, api, incoming, requestId }: { target: Target; api: Api; incoming: InboundRequest; requestId: string },
): OutboundRequest {
  const headers = ['content-type', 'application/json', 'accept-encoding', 'identity', 'x-request-id', requestId]
  for (const name of forwardedHeaders) {
    const value = incoming.headers[name]
    if (value !== undefined) headers.push(name, value)
  }
  headers.push(...target.credentialHeaders)
  return {
    origin: target.origin,
    path: target.basePath + api.upstreamPath,
    method: 'POST',
    headers,
    body: pieces(request.body, edits(request, { target, api })),
  }
}

function edits(request: InferenceRequest, { target, api }: { target: Target; api: Api }): Edit[] {
  const { model, stream_options } = request.scanned.members
  const made: Edit[] = []
  if (model !== undefined && target.targetModel !== null && target.targetModel !== request.slug) {
    made.push({ ...model, replacement: Buffer.from(JSON.stringify(target.targetModel)) })
  }
  if (request.isStream && api.usageOnRequest && !request.showsUsage) {
    made.push(
      stream_options === undefined
        ? appendMember(request.scanned, 'stream_options', '{"include_usage":true}')
        : {
            ...stream_options,
            replacement: withUsage(request.body.toString('utf8', stream_options.start, stream_options.end)),
          },
    )
  }
  return made.sort((one, other) => one.start - other.start)
}

/** What is no object is left as it is, for upstream to refuse. */
function withUsage(streamOptions: string): Buffer {
  const given: unknown = JSON.parse(streamOptions)
  const isObject = typeof given === 'object' && !Array.isArray(given)
  return Buffer.from(isObject ? JSON.stringify({ ...given, include_usage: true }) : streamOptions)
}
