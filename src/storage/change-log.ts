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

export type ChangeListener = (change: Change) => void | Promise<void>

/** Tells everything that keeps copies of stored rows when these have changed: after the commit, before the answer. */
export class ChangeLog {
  readonly #listeners: ChangeListener[] = []

  subscribe(listener: ChangeListener): void {
    this.#listeners.push(listener)
  }

  record(transaction: Transaction, change: Change): void {
    transaction.onCommit(async () => {
      await Promise.all(this.#listeners.map((listener) => listener(change)))
    })
  }
}
