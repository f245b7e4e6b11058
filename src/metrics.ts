import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObject,
  Registry,
} from 'prom-client'

/**
 * One function per event of the business; names and labels of the series stand here and nowhere else. No
 * label grows with the number of customers (contract §15).
 */
export type Metrics = ReturnType<typeof openMetrics>

export function openMetrics() {
  const registry = new Registry()
  // A look every 10 ms, the default, takes 0.7 % of a core from a process that does nothing else.
  collectDefaultMetrics({ register: registry, prefix: 'tollgate_', eventLoopMonitoringPrecision: 50 })
  const registers = [registry]
  const seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

  const requests = new Counter({
    name: 'tollgate_requests_total',
    help: 'Inference requests answered, by slug and status.',
    labelNames: ['slug', 'status'],
    registers,
  })
  const tokens = new Counter({
    name: 'tollgate_tokens_total',
    help: 'Tokens recorded, by slug and kind (input, output, cached_input).',
    labelNames: ['slug', 'kind'],
    registers,
  })
  const refusals = new Counter({
    name: 'tollgate_limit_refusals_total',
    help: 'Requests refused with 429, by kind of limit, type and unit.',
    labelNames: ['limit', 'type', 'unit'],
    registers,
  })
  const upstreamSeconds = new Histogram({
    name: 'tollgate_upstream_seconds',
    help: 'Time from sending a request upstream to the end of its answer.',
    buckets: seconds,
    registers,
  })
  const firstByteSeconds = new Histogram({
    name: 'tollgate_time_to_first_byte_seconds',
    help: "Time from sending a request upstream to the first byte of its answer's body.",
    buckets: seconds,
    registers,
  })
  const overheadSeconds = new Histogram({
    name: 'tollgate_overhead_seconds',
    help: 'Time from a request being read whole to its being sent upstream.',
    buckets: seconds,
    registers,
  })
  const upstreamFailures = new Counter({
    name: 'tollgate_upstream_failures_total',
    help: 'Attempts at a target that failed, by reason.',
    labelNames: ['reason'],
    registers,
  })
  const outcomes = new Counter({
    name: 'tollgate_events_recorded_total',
    help: 'Billing events written to the journal, by outcome and source of their token counts.',
    labelNames: ['outcome', 'usage_source'],
    registers,
  })
  const unrecorded = new Counter({
    name: 'tollgate_events_unrecorded_total',
    help: 'Responses that upstream served and whose event could not be written. Must stay 0: raise an alarm.',
    registers,
  })
  const connectionsRefused = new Counter({
    name: 'tollgate_connections_refused_total',
    help: 'Connections to the inference listener that were closed at once, since as many as may be were open: raise an alarm.',
    registers,
  })
  const openStreams = new Gauge({
    name: 'tollgate_open_streams',
    help: 'Streamed responses in flight.',
    registers,
  })
  const journalDepth = new Gauge({
    name: 'tollgate_journal_events',
    help: 'Billing events in the journal that the ledger does not have yet.',
    registers,
  })
  const shippingFailures = new Counter({
    name: 'tollgate_shipping_failures_total',
    help: 'Attempts to move events from the journal to the ledger that failed.',
    registers,
  })
  const webhookAttempts = new Counter({
    name: 'tollgate_webhook_attempts_total',
    help: "Attempts to send billing events to webhooks, by outcome: the answer's class (2xx), or why there was none.",
    labelNames: ['outcome'],
    registers,
  })
  const webhookEventsEnded = new Counter({
    name: 'tollgate_webhook_events_ended_total',
    help: 'Billing events whose delivery to a webhook has ended, by status: delivered, or dead.',
    labelNames: ['status'],
    registers,
  })
  const databaseReachable = new Gauge({
    name: 'tollgate_database_reachable',
    help: 'Whether the database answers. 0: events wait in the journal, and changes by other nodes are not known. Raise an alarm.',
    // The node's, not the sum of its processes'.
    aggregator: 'min',
    registers,
  })
  let isDatabaseReachable = true
  databaseReachable.set(1)
  let webhooks: WebhookFigures | null = null
  new Gauge({
    name: 'tollgate_webhook_events_pending',
    help: 'Billing events that webhooks have yet to be sent, or are being sent.',
    registers,
    collect() {
      return isDatabaseReachable ? setTo(this, webhooks?.pendingEvents) : undefined
    },
  })
  new Gauge({
    name: 'tollgate_webhooks_with_dead_deliveries',
    help: 'Webhooks with events that were given up, and wait to be asked for again: raise an alarm.',
    registers,
    collect() {
      return isDatabaseReachable ? setTo(this, webhooks?.withDeadDeliveries) : undefined
    },
  })

  const counterStoreHealthy = new Gauge({
    name: 'tollgate_counter_store_healthy',
    help: 'Whether the limit counters answer: 0 while any server that keeps them is away. Raise an alarm.',
    aggregator: 'min',
    registers,
  })
  counterStoreHealthy.set(1)
  const counterStoreSeconds = new Histogram({
    name: 'tollgate_counter_store_seconds',
    help: 'Time that a call to the shared limit counters took to its answer.',
    buckets: seconds,
    registers,
  })
  const counterStoreFailures = new Counter({
    name: 'tollgate_counter_store_failures_total',
    help: 'Calls to the shared limit counters that failed, by kind: deadline, connection, refused.',
    labelNames: ['kind'],
    registers,
  })
  const fallbackAdmissions = new Counter({
    name: 'tollgate_fallback_admissions_total',
    help: 'Requests that were decided while the shared limit counters were away: by this node alone, or rejected.',
    labelNames: ['mode'],
    registers,
  })
  const leasesEnded = new Counter({
    name: 'tollgate_leases_ended_total',
    help: 'Reservations that nobody settled or released and that returned when their lease ended.',
    registers,
  })
  const tokensOverReservation = new Counter({
    name: 'tollgate_tokens_over_reservation_total',
    help: 'Tokens that requests used beyond what was reserved for them: what can pass a limit.',
    registers,
  })
  const removedEvents = new Counter({
    name: 'tollgate_events_removed_total',
    help: 'Billing events that retention has removed from the ledger.',
    registers,
  })

  return {
    registry,
    databaseReachable: (isReachable: boolean) => {
      isDatabaseReachable = isReachable
      databaseReachable.set(isReachable ? 1 : 0)
    },
    counterStoreHealth: (isHealthy: boolean) => counterStoreHealthy.set(isHealthy ? 1 : 0),
    counterStoreAnswered: ({ tookMs }: { tookMs: number }) => counterStoreSeconds.observe(tookMs / 1000),
    counterStoreFailed: (labels: { kind: string }) => counterStoreFailures.inc(labels),
    admittedByFallback: (labels: { mode: string }) => fallbackAdmissions.inc(labels),
    leasesEnded: (leases: number) => leasesEnded.inc(leases),
    settledOverReservation: (tokens: number) => tokensOverReservation.inc(tokens),
    eventsRemoved: (events: number) => removedEvents.inc(events),
    requestAnswered: ({ slug, status }: { slug: string; status: number }) =>
      requests.inc({ slug, status: String(status) }),
    limitRefused: ({ limit, type, unit }: { limit: string; type: string; unit: string }) =>
      refusals.inc({ limit, type, unit }),
    upstreamFailed: (reason: string) => upstreamFailures.inc({ reason }),
    requestForwarded: ({ overheadMs }: { overheadMs: number }) => overheadSeconds.observe(overheadMs / 1000),
    upstreamFirstByte: ({ waitedMs }: { waitedMs: number }) => firstByteSeconds.observe(waitedMs / 1000),
    upstreamEnded: ({ tookMs }: { tookMs: number }) => upstreamSeconds.observe(tookMs / 1000),
    connectionRefused: () => connectionsRefused.inc(),
    streamOpened: () => openStreams.inc(),
    streamClosed: () => openStreams.dec(),
    eventRecorded: ({ modelSlug: slug, outcome, usageSource, tokens: counts }: RecordedFigures) => {
      outcomes.inc({ outcome, usage_source: usageSource })
      tokens.inc({ slug, kind: 'input' }, counts.inputTokens)
      tokens.inc({ slug, kind: 'output' }, counts.outputTokens)
      tokens.inc({ slug, kind: 'cached_input' }, counts.cachedInputTokens)
    },
    eventUnrecorded: () => unrecorded.inc(),
    journalDepth: (events: number) => journalDepth.set(events),
    shippingFailed: () => shippingFailures.inc(),
    webhookAttempted: (labels: { outcome: string }) => webhookAttempts.inc(labels),
    webhookDeliveryEnded: ({ status, events }: { status: 'delivered' | 'dead'; events: number }) =>
      webhookEventsEnded.inc({ status }, events),
    /** Says where the figures come from that are read whenever the metrics are asked for. */
    watchWebhooks: (figures: WebhookFigures) => {
      webhooks = figures
    },
  }
}

export interface WebhookFigures {
  pendingEvents: () => Promise<number>
  withDeadDeliveries: () => Promise<number>
}

async function setTo(gauge: Gauge, read: (() => Promise<number>) | undefined): Promise<void> {
  try {
    if (read !== undefined) gauge.set(await read())
  } catch {
    // The database is away: the last figure stands.
  }
}

export const prometheusContentType = Registry.PROMETHEUS_CONTENT_TYPE

/** The metrics of all processes of a node together, in the text format of Prometheus. */
export function metricsText(processes: MetricObject[][]): Promise<string> {
  return AggregatorRegistry.aggregate(processes).metrics()
}

/** What of a billing event is counted. */
interface RecordedFigures {
  modelSlug: string
  outcome: string
  usageSource: string
  tokens: { inputTokens: number; outputTokens: number; cachedInputTokens: number }
}
