import { DatabaseSync } from 'node:sqlite'

/** What this receiver keeps of a billing event; there is more in it. */
export interface BillingEvent {
  idempotencyKey: string
  sequence: number
  timestamp: string
  externalEntityId: string
  modelSlug: string
  tokens: { inputTokens: number; outputTokens: number }
  /** Only test events have it. They are nobody's usage. */
  test?: true
}

export interface StoreStatus {
  events: number
  first_sequence: number | null
  last_sequence: number | null
  /** Gaps in the sequence: events that are still under way, or dead. */
  missing: { first: number; last: number }[]
}

/** Billing events in SQLite, each once, however often it is delivered. */
export class EventStore {
  readonly #database: DatabaseSync

  constructor(path: string) {
    this.#database = new DatabaseSync(path, { timeout: 5_000 })
    this.#database.exec(`
      PRAGMA journal_mode = WAL;
      CREATE TABLE IF NOT EXISTS events (
        idempotency_key TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        external_entity_id TEXT NOT NULL,
        model_slug TEXT NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        recorded_at TEXT NOT NULL
      );
      CREATE INDEX IF NOT EXISTS events_by_sequence ON events (sequence)`)
  }

  /** Stores what is new of `events`, all or nothing, and returns how many that were. */
  add(events: readonly BillingEvent[]): number {
    const insert = this.#database.prepare(
      'INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (idempotency_key) DO NOTHING',
    )
    let stored = 0
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      for (const event of events) {
        if (event.test) continue
        const { inputTokens, outputTokens } = event.tokens
        const { idempotencyKey, sequence, externalEntityId, modelSlug, timestamp } = event
        const values = [idempotencyKey, sequence, externalEntityId, modelSlug, inputTokens, outputTokens, timestamp]
        stored += Number(insert.run(...values).changes)
      }
      this.#database.exec('COMMIT')
    } catch (error) {
      this.#database.exec('ROLLBACK')
      throw error
    }
    return stored
  }

  /**
   * How far the record has come. Deliveries may overtake one another, so a gap is news only when it stays: ask for
   * what is missing with `POST /v1/gateway/webhooks/{id}/redeliver`, or read it from `GET /v1/gateway/events`.
   */
  status(): StoreStatus {
    const totals = this.#database
      .prepare('SELECT count(*) AS events, min(sequence) AS first_sequence, max(sequence) AS last_sequence FROM events')
      .get() as unknown as Omit<StoreStatus, 'missing'>
    const missing = this.#database
      .prepare(
        `SELECT previous + 1 AS first, sequence - 1 AS last
         FROM (SELECT sequence, lag(sequence) OVER (ORDER BY sequence) AS previous FROM events)
         WHERE sequence > previous + 1`,
      )
      .all() as unknown as StoreStatus['missing']
    return { ...totals, missing }
  }
}
