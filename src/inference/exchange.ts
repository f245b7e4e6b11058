import { keyHash } from '../access/api-key.ts'
import type { KeyUse } from '../access/key-use.ts'
import { presentedKey } from '../access/principal.ts'
import type { Clock } from '../clock.ts'
import type { Caller, Directory } from '../directory/directory.ts'
import type { InboundRequest } from '../inbound/request.ts'
import type { Journal } from '../ledger/journal.ts'
import type { Limiter } from '../limits/limiter.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Outbound } from '../outbound.ts'
import type { Api } from './api.ts'
import { billingEvent } from './billing.ts'
import type { ClientConnection } from './client-connection.ts'
import { rateLimitHeaders } from './rate-limit-headers.ts'
import { limitExceeded, modelNotFound, type Refusal, refusals } from './refusal.ts'
import { relay } from './relay.ts'
import { readRequest } from './request.ts'
import { callUpstream } from './upstream.ts'
import { upstreamRefusal } from './upstream-refusal.ts'
import { upstreamRequest } from './upstream-request.ts'

export interface ExchangeParts {
  directory: Directory
  keyUse: Pick<KeyUse, 'noted'>
  limiter: Limiter
  journal: Pick<Journal, 'append' | 'takesEvents'>
  outbound: Outbound
  clock: Clock
  log: Log
  metrics: Metrics
  bodyBytesMax: number
  stallTimeoutMs: number
}

/**
 * One inference request from its first byte to its last. The caller is known before a byte of the body is read;
 * capacity is taken before upstream is called; the event is on disk before the last byte leaves (contract §11, §12,
 * §14). What was reserved and not settled is given back on every way out.
 */
export async function exchange(
  { directory, keyUse, limiter, journal, outbound, clock, log, metrics, bodyBytesMax, stallTimeoutMs }: ExchangeParts,
  { incoming, client, api }: { incoming: InboundRequest; client: ClientConnection; api: Api },
): Promise<void> {
  let identity = await identify(incoming, { directory, keyUse, clock })
  if (!identity.accepted) return client.refuse(identity.refusal)

  const isBodyHere = incoming.isComplete
  const reading = await readRequest(incoming, { api, bodyBytesMax })
  if (!reading.accepted) return client.refuse(reading.refusal)
  const { request } = reading
  // A body may come long after its head: meanwhile the key may have been revoked, or its limits changed.
  if (!isBodyHere) identity = await identify(incoming, { directory, keyUse, clock })
  if (!identity.accepted) return client.refuse(identity.refusal)
  const { caller } = identity
  const readAtMs = clock.monotonic()

  const route = await directory.route(caller, request.slug)
  if (route === null) return client.refuse(modelNotFound(request.slug))
  client.slug = route.slug
  // Upstream is not to work for what cannot be billed.
  if (!journal.takesEvents()) return client.refuse(refusals.unavailable)

  const admission = await limiter.reserve(route.buckets, { tokens: request.tokensToReserve })
  client.addHeaders(rateLimitHeaders(admission.rateLimits))
  if (!admission.admitted) {
    metrics.limitRefused(admission)
    return client.refuse(limitExceeded(admission))
  }
  await using reservation = admission.reservation

  const sentAtMs = clock.monotonic()
  metrics.requestForwarded({ overheadMs: sentAtMs - readAtMs })
  const answer = await callUpstream(
    {
      targets: route.targets,
      requestFor: (target) => upstreamRequest(request, { target, api, incoming, requestId: client.requestId }),
      onClientGone: (callback) => client.onGone(callback),
    },
    { outbound, metrics, log },
  )
  if (answer.kind === 'abandoned') return reservation.abandon({ tokens: request.promptTokens })
  if (answer.kind === 'failed') {
    return client.refuse(answer.failure === 'timeout' ? refusals.upstreamTooSlow : refusals.upstreamFailed)
  }
  metrics.upstreamFirstByte({ waitedMs: clock.monotonic() - sentAtMs })
  if (answer.response.status !== 200) return client.refuse(await upstreamRefusal(answer, { slug: route.slug }))

  await relay(answer.response, {
    client,
    request,
    api,
    clock,
    metrics,
    stallTimeoutMs,
    record: async (served) => {
      const event = billingEvent({ clock, caller, request, requestId: client.requestId, reservation, served })
      await journal.append(event)
      metrics.eventRecorded(event)
      await reservation.settle({ tokens: served.tokens.inputTokens + served.tokens.outputTokens })
    },
  })
  // Whoever left before anything was produced has made a request all the same; for all others it is settled by now.
  if (client.isGone) await reservation.abandon({ tokens: request.promptTokens })
  metrics.upstreamEnded({ tookMs: clock.monotonic() - sentAtMs })
}

export type Identity = { accepted: true; caller: Caller } | { accepted: false; refusal: Refusal }

/** Who calls, judged by the headers alone: 401 for a key that nobody has, or no longer; 403 for one that may not. */
export async function identify(
  incoming: InboundRequest,
  { directory, keyUse, clock }: Pick<ExchangeParts, 'directory' | 'keyUse' | 'clock'>,
): Promise<Identity> {
  const key = presentedKey(incoming.headers['authorization'])
  const caller = key === null ? null : await directory.caller(keyHash(key), clock.now())
  const owner = await directory.workspaceOf(hostnameOf(incoming))
  if (caller === null || (owner !== null && owner !== caller.workspaceId)) {
    return { accepted: false, refusal: refusals.unauthorized }
  }
  keyUse.noted(caller.kind, caller.apiKeyPrefix, clock.now())
  if (caller.kind === 'workspace' && !caller.mayCallModels) return { accepted: false, refusal: refusals.forbidden }
  return { accepted: true, caller }
}

/** The host that the client asked for, without a port and without the dot at its end that a full name may have. */
function hostnameOf({ host }: InboundRequest): string {
  const port = host.lastIndexOf(':')
  const name = (port === -1 || host.endsWith(']') ? host : host.slice(0, port)).toLowerCase()
  return name.endsWith('.') ? name.slice(0, -1) : name
}
