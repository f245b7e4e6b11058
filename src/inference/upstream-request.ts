import type { Target } from '../directory/target.ts'
import type { InboundRequest } from '../inbound/request.ts'
import type { OutboundRequest } from '../outbound/connection.ts'
import type { Api } from './api.ts'
import { type Edit, pieces } from './json-scan.ts'
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
    body: pieces(request.body, edits(request, target)),
  }
}

function edits(request: InferenceRequest, target: Target): Edit[] {
  const { model } = request.scanned.members
  const made: Edit[] = []
  if (model !== undefined && target.targetModel !== null && target.targetModel !== request.slug) {
    made.push({ ...model, replacement: Buffer.from(JSON.stringify(target.targetModel)) })
  }
  if (request.usageEdit !== null) made.push(request.usageEdit)
  return made.sort((one, other) => one.start - other.start)
}
