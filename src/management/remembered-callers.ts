import { LRUCache } from 'lru-cache'
import { keyHash } from '../access/api-key.ts'
import { presentedKey } from '../access/principal.ts'
import { UnavailableError } from '../errors.ts'
import type { Change, ChangeLog } from '../storage/change-log.ts'
import type { Caller } from './authentication.ts'

/**
 * Who called last with which key, for routes that must answer while the database is away. As in the directory of the
 * inference plane, a copy holds until the change log says that its key may have changed.
 */
export class RememberedCallers {
  readonly #callers = new LRUCache<string, Caller>({ max: 1_000 })

  constructor(changeLog: ChangeLog) {
    changeLog.subscribe((change) => this.#forget(change))
  }

  /** What `authenticate` finds; where the database is away, what it found before. */
  async recalling(
    { authorization, path }: { authorization: string | undefined; path: string },
    authenticate: () => Promise<Caller>,
  ): Promise<Caller> {
    const id = `${path} ${keyHash(presentedKey(authorization) ?? '')}`
    try {
      const caller = await authenticate()
      this.#callers.set(id, caller)
      return caller
    } catch (error) {
      const remembered = error instanceof UnavailableError ? this.#callers.get(id) : undefined
      if (remembered === undefined) throw error
      return remembered
    }
  }

  #forget({ kind }: Change): void {
    if (kind === 'key' || kind === 'workspace' || kind === 'everything') this.#callers.clear()
  }
}
