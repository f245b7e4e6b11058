import { LRUCache } from 'lru-cache'
import type { Transaction } from './database.ts'

/** What a committed write made stale in memory. */
export type Change =
  | { kind: 'workspace'; workspaceId: string }
  | { kind: 'key'; hash: string }
  /** The group and its whole subtree: their limits, or that they exist at all. */
  | { kind: 'group'; groupId: string }
  /** Endpoints, models or secrets of a workspace: where its slugs lead. */
  | { kind: 'routing'; workspaceId: string }
  /** Which workspace a hostname belongs to. */
  | { kind: 'domains' }
  /** Any of it: changes may have been missed. */
  | { kind: 'everything' }

export type ChangeListener = (change: Change) => void | Promise<void>

/** Writes a change down for the other nodes, within its transaction; resolves with what tells it from all others. */
export type KeepChange = (change: Change, transaction: Transaction) => Promise<string>

/** Tells everything that keeps copies of stored rows when these have changed: after the commit, before the answer. */
export class ChangeLog {
  readonly #listeners: ChangeListener[] = []
  readonly #keep: KeepChange | null
  /** Stamps of what was changed, and told, here. */
  readonly #told = new LRUCache<string, true>({ max: 10_000 })

  /** `keep` where there may be other nodes. */
  constructor({ keep = null }: { keep?: KeepChange | null } = {}) {
    this.#keep = keep
  }

  subscribe(listener: ChangeListener): void {
    this.#listeners.push(listener)
  }

  record(transaction: Transaction, change: Change): void {
    const keep = this.#keep
    let stamp: string | null = null
    if (keep !== null) {
      transaction.beforeCommit(async () => {
        stamp = await keep(change, transaction)
      })
    }
    transaction.onCommit(async () => {
      await this.tell(change)
      if (stamp !== null) this.#told.set(stamp, true)
    })
  }

  /** Tells of a change that was written down, here or elsewhere, unless that has been done: what was read since is new. */
  async hear(stamp: string, change: Change): Promise<void> {
    if (!this.#told.has(stamp)) await this.tell(change)
  }

  /** Resolves once every listener has taken note of a change that has been committed, here or elsewhere. */
  async tell(change: Change): Promise<void> {
    await Promise.all(this.#listeners.map((listener) => listener(change)))
  }
}
