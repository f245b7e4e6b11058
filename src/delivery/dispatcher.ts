import type { Clock, Timer } from '../clock.ts'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Postbox } from '../outbound.ts'
import type { Database, Transaction } from '../storage/database.ts'
import type { SecretBox } from '../storage/secret-box.ts'
import { attempt, type DueDelivery, type FinishedAttempt } from './attempt.ts'
import { reportAttempt } from './attempt-report.ts'
import { pendingEvents, webhooksWithDeadDeliveries } from './backlog.ts'
import { removeDeletedWebhooks } from './deleted-webhooks.ts'
import { claimMs, recordAttempt, releaseClaims } from './delivery-claims.ts'
import { type AttemptKind, attemptsAtOnceMax, Lane } from './lane.ts'
import { type Turn, Turns } from './turns.ts'
import { findWebhooks, takeWork, type WebhookName, type WebhookWork, webhooksWithWork } from './webhook-work.ts'

/**
 * Brings every billing event of a workspace to each of its webhooks, at least once (contract §14).
 *
 * The record is the queue. A webhook has a place in it; the events behind that place are put, up to 100 at a time and
 * without a gap, into **deliveries**, and a delivery is a row: which events, under which request id, how often tried,
 * when next. Placing events and moving the webhook on is one transaction, so no event is left out or put into two
 * deliveries. The body is not stored: each attempt makes the same bytes of the record anew. A backlog of any size is
 * therefore a number in a row, and takes no memory.
 *
 * - Killed during an attempt: the delivery is pending and claimed. The next start ends all claims, or, among several
 *   nodes, the claim runs out, and it is sent again, under the same request id and with the same bytes; a receiver that
 *   had it already knows both.
 * - Killed while it waits: the time of the next attempt is in the row, and the schedule goes on.
 * - A receiver fails: its deliveries are retried as `schedule.ts` says, then dead: kept until somebody asks for them.
 * - A receiver hangs: it has a few attempts under way (`lane.ts`) and takes nothing from the others but those.
 * - All receivers of a workspace hang: they have their part of the attempts, and what is left is the others' (`turns.ts`).
 * - The database is away: nothing new begins; what attempts came to waits in memory, no more than are under way.
 *
 * Work goes in steps: one transaction keeps what attempts came to, and claims what is due next, for a few webhooks at a
 * time; then the attempts begin. A step follows when the record grows, an attempt ends, a delivery comes due, or every
 * half minute, for what another node has left behind.
 */
export interface Dispatcher extends AsyncDisposable {
  /** Sends what is new in the record of these workspaces. */
  recordGrew(workspaceIds: readonly string[]): void
  /** Sends what is due to this webhook: it is new, or deliveries were asked for again. */
  webhookChanged(webhookId: string): void
}

export interface DispatcherOptions {
  database: Database
  postbox: Postbox
  secretBox: SecretBox
  clock: Clock
  log: Log
  metrics: Pick<Metrics, 'webhookAttempted' | 'webhookDeliveryEnded' | 'watchWebhooks'>
  /** Whether no other node delivers from this database: whoever claimed deliveries before this start is then gone. */
  isAlone?: boolean
  /** Attempts under way at a time, to all receivers: each holds one body, of 300 kB at most, in memory. */
  attemptsMax?: number
  /** Of these, those of one workspace. */
  workspaceAttemptsMax?: number
  /** How long disposing waits for attempts under way; the next start makes anew what is left then. */
  closeMs?: number
}

/** Goes on where the last process stopped, and resolves once it has. */
export async function startDispatcher({
  isAlone = true,
  attemptsMax = 256,
  workspaceAttemptsMax = Math.ceil(attemptsMax / 4),
  closeMs = 5_000,
  ...parts
}: DispatcherOptions): Promise<Dispatcher> {
  const dispatcher = new StoredDispatcher({ isAlone, attemptsMax, workspaceAttemptsMax, closeMs, ...parts })
  await dispatcher.start()
  return dispatcher
}

const sweepMs = 30_000
const retryMs = 1_000
/** In one transaction: it holds up whoever else wants the database. */
const webhooksPerStep = 8

class StoredDispatcher implements Dispatcher {
  readonly #parts: Required<DispatcherOptions>
  readonly #lanes = new Map<string, Lane>()
  readonly #grownWorkspaces = new Set<string>()
  readonly #changedWebhooks = new Set<string>()
  readonly #turns: Turns
  readonly #underWay = new Set<Promise<void>>()
  readonly #finished: FinishedAttempt[] = []
  #steps: Promise<void> | null = null
  #pause: Timer | null = null
  #isHeldUp = false
  #sweepTimer: Timer | null = null
  #sweep: Promise<void> | null = null
  #stopped = false

  constructor(parts: Required<DispatcherOptions>) {
    this.#parts = parts
    this.#turns = new Turns({ ...parts, webhookAttemptsMax: attemptsAtOnceMax })
  }

  async start(): Promise<void> {
    const { database, metrics, isAlone } = this.#parts
    const { queries } = database
    metrics.watchWebhooks({
      pendingEvents: () => pendingEvents(queries),
      withDeadDeliveries: () => webhooksWithDeadDeliveries(queries),
    })
    if (isAlone) await releaseClaims(queries)
    await this.#lookThrough()
    this.#scheduleSweep()
  }

  recordGrew(workspaceIds: readonly string[]): void {
    for (const id of workspaceIds) this.#grownWorkspaces.add(id)
    this.#wake()
  }

  webhookChanged(webhookId: string): void {
    this.#changedWebhooks.add(webhookId)
    this.#wake()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { clock, closeMs } = this.#parts
    this.#stopped = true
    this.#pause?.cancel()
    this.#sweepTimer?.cancel()
    for (const { timer } of this.#lanes.values()) timer?.cancel()
    await Promise.all([this.#steps, this.#sweep])
    const deadline = Promise.withResolvers<void>()
    const timer = clock.after(closeMs, deadline.resolve)
    await Promise.race([Promise.all(this.#underWay), deadline.promise])
    timer.cancel()
    await this.#keepFinished()
  }

  /** Sees to it that what there is to do is done: soon, and by one run of steps at a time. */
  #wake(): void {
    if (this.#steps !== null || this.#pause !== null || !this.#hasWork()) return
    this.#steps = this.#runSteps().finally(() => {
      this.#steps = null
      this.#wake()
    })
  }

  #hasWork(): boolean {
    if (this.#stopped) return false
    const hasNews = this.#grownWorkspaces.size > 0 || this.#changedWebhooks.size > 0
    return hasNews || this.#finished.length > 0 || this.#turns.hasNext
  }

  async #runSteps(): Promise<void> {
    const { clock, log } = this.#parts
    try {
      while (this.#hasWork()) {
        await eventLoopTurn()
        await this.#step()
        this.#isHeldUp = false
      }
    } catch (error) {
      if (!this.#isHeldUp) log.error({ err: error }, 'webhooks are held up; trying again every second')
      this.#isHeldUp = true
      this.#pause = clock.after(retryMs, () => {
        this.#pause = null
        this.#wake()
      })
    }
  }

  async #step(): Promise<void> {
    await this.#hearNews()
    const turns = this.#turns.take(webhooksPerStep)
    const finished = this.#finished.splice(0)
    let works: Map<Turn, WebhookWork | null>
    try {
      works = await this.#parts.database.transaction(async (transaction) => {
        for (const attempt of finished) await recordAttempt(attempt, transaction)
        return this.#takeWorks(turns, transaction)
      })
    } catch (error) {
      this.#finished.unshift(...finished)
      this.#turns.giveBack(turns)
      throw error
    }
    for (const [turn, work] of works) this.#begin(turn, work)
  }

  /** The webhooks of which there is news wait for their turn. */
  async #hearNews(): Promise<void> {
    const { queries } = this.#parts.database
    const [workspaceIds, webhookIds] = [[...this.#grownWorkspaces], [...this.#changedWebhooks]]
    this.#willLookAt(await findWebhooks('id', webhookIds, queries))
    this.#willLookAt(await findWebhooks('workspace_id', workspaceIds, queries))
    for (const id of workspaceIds) this.#grownWorkspaces.delete(id)
    for (const id of webhookIds) this.#changedWebhooks.delete(id)
  }

  #willLookAt(webhooks: readonly WebhookName[]): void {
    for (const { id, workspace_id } of webhooks) this.#turns.add(id, workspace_id)
  }

  async #takeWorks(turns: readonly Turn[], transaction: Transaction): Promise<Map<Turn, WebhookWork | null>> {
    const works = new Map<Turn, WebhookWork | null>()
    const { clock } = this.#parts
    const [nowMs, monotonicMs] = [clock.now(), clock.monotonic()]
    // In an order that all nodes keep to, so that their transactions do not wait in a circle.
    for (const turn of turns.toSorted((one, other) => (one.webhookId < other.webhookId ? -1 : 1))) {
      const lane = this.#lane(turn.webhookId)
      const work = await takeWork(turn.webhookId, transaction, {
        firstsMax: lane.room('first', monotonicMs),
        repeatsMax: lane.room('repeat', monotonicMs),
        attemptsMax: turn.attemptsMax,
        isFailing: lane.isFailing,
        nowMs,
        claimedUntilMs: nowMs + claimMs,
      })
      works.set(turn, work)
    }
    return works
  }

  /** Starts the attempts that were claimed, and sees to it that the webhook is looked at when the next is due. */
  #begin({ webhookId, workspaceId }: Turn, work: WebhookWork | null): void {
    const { clock } = this.#parts
    const lane = this.#lane(webhookId)
    lane.timer?.cancel()
    lane.timer = null
    for (const due of work?.repeats ?? []) this.#startAttempt(lane, 'repeat', due)
    for (const due of work?.firsts ?? []) this.#startAttempt(lane, 'first', due)
    const lookAfterMs = lane.nextLookAfterMs(work?.nextDueAfterMs ?? null, clock.monotonic())
    if (lookAfterMs !== null) {
      const webhook = { id: webhookId, workspace_id: workspaceId }
      lane.timer = clock.after(Math.max(1, lookAfterMs), () => this.#lookAgain(webhook))
    } else if (lane.isIdle) {
      this.#lanes.delete(webhookId)
    }
  }

  #lane(webhookId: string): Lane {
    const lane = this.#lanes.get(webhookId) ?? new Lane()
    this.#lanes.set(webhookId, lane)
    return lane
  }

  #lookAgain(webhook: WebhookName): void {
    this.#willLookAt([webhook])
    this.#wake()
  }

  #startAttempt(lane: Lane, kind: AttemptKind, due: DueDelivery): void {
    this.#turns.begin(due.webhook.workspace_id)
    lane.begin(kind, this.#parts.clock.monotonic())
    const underWay = this.#attempt(due).then((finished) => {
      this.#underWay.delete(underWay)
      this.#turns.end(due.webhook.workspace_id)
      lane.end(kind, { delivered: finished?.after.status === 'delivered' })
      if (finished !== null) this.#finished.push(finished)
      this.#lookAgain(due.webhook)
    })
    this.#underWay.add(underWay)
  }

  /** Null where the attempt could not be made: its claim runs out, and it is made then. */
  async #attempt(due: DueDelivery): Promise<FinishedAttempt | null> {
    const { database, log } = this.#parts
    try {
      const finished = await attempt(due, { ...this.#parts, queries: database.queries })
      reportAttempt(finished, this.#parts)
      return finished
    } catch (error) {
      log.error({ err: error, deliveryId: due.delivery.id }, 'an attempt at a delivery could not be made')
      return null
    }
  }

  async #lookThrough(): Promise<void> {
    this.#willLookAt(await webhooksWithWork(this.#parts.database.queries))
    this.#wake()
  }

  #scheduleSweep(): void {
    if (this.#stopped) return
    this.#sweepTimer = this.#parts.clock.after(sweepMs, () => {
      this.#sweep = this.#sweepOnce().finally(() => this.#scheduleSweep())
    })
  }

  async #sweepOnce(): Promise<void> {
    const { database, log } = this.#parts
    try {
      await this.#lookThrough()
      await removeDeletedWebhooks(database.queries, { mayGoOn: () => !this.#stopped })
    } catch (error) {
      log.error({ err: error }, 'webhooks cannot be looked through now')
    }
  }

  /** What cannot be kept is made again, here or on another node, when the claims have run out. */
  async #keepFinished(): Promise<void> {
    const { database, log } = this.#parts
    const finished = this.#finished.splice(0)
    if (finished.length === 0) return
    try {
      await database.transaction(async (transaction) => {
        for (const attempt of finished) await recordAttempt(attempt, transaction)
      })
    } catch (error) {
      log.warn({ err: error, attempts: finished.length }, 'the last attempts at deliveries could not be kept')
    }
  }
}
