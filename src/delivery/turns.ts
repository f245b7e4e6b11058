/** A webhook that may be looked at, and how many attempts may begin for it. */
export interface Turn {
  webhookId: string
  workspaceId: string
  attemptsMax: number
}

export interface TurnsOptions {
  /** Attempts under way at a time. */
  attemptsMax: number
  /** Of these, those of one workspace. */
  workspaceAttemptsMax: number
  /** Of these, those that one webhook may begin in a turn. */
  webhookAttemptsMax: number
}

/**
 * Which webhooks are looked at next. Workspaces take turns, and so do the webhooks of each; while there is no room for
 * one, it keeps its place. No workspace has more than its part of all attempts, so that receivers of one lab, if they
 * all hang, leave the rest to the others.
 */
export class Turns {
  readonly #options: TurnsOptions
  /** In the order of their turns, the workspaces and the webhooks of each. */
  readonly #waiting = new Map<string, Set<string>>()
  readonly #underWay = new Map<string, number>()
  #underWayInAll = 0

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** The webhook waits for its turn; where it does so already, this changes nothing. */
  add(webhookId: string, workspaceId: string): void {
    const webhooks = this.#waiting.get(workspaceId)
    if (webhooks === undefined) this.#waiting.set(workspaceId, new Set([webhookId]))
    else webhooks.add(webhookId)
  }

  /** Whether there is room for somebody who waits. */
  get hasNext(): boolean {
    return this.#nextWorkspace(new Allotted()) !== null
  }

  /** The next `turnsMax`, or as many as there is room for: they wait no longer. */
  take(turnsMax: number): Turn[] {
    const turns: Turn[] = []
    const allotted = new Allotted()
    while (turns.length < turnsMax) {
      const workspaceId = this.#nextWorkspace(allotted)
      if (workspaceId === null) break
      const attemptsMax = Math.min(this.#options.webhookAttemptsMax, this.#room(workspaceId, allotted))
      allotted.add(workspaceId, attemptsMax)
      turns.push({ webhookId: this.#takeFirst(workspaceId), workspaceId, attemptsMax })
    }
    return turns
  }

  /** These turns came to nothing: they are the next. */
  giveBack(turns: readonly Turn[]): void {
    for (const { webhookId, workspaceId } of turns.toReversed()) {
      const webhooks = this.#waiting.get(workspaceId) ?? []
      this.#waiting.set(workspaceId, new Set([webhookId, ...webhooks]))
    }
  }

  /** An attempt begins. */
  begin(workspaceId: string): void {
    this.#underWay.set(workspaceId, this.#underWayOf(workspaceId) + 1)
    this.#underWayInAll += 1
  }

  /** An attempt has ended. */
  end(workspaceId: string): void {
    const others = this.#underWayOf(workspaceId) - 1
    if (others === 0) this.#underWay.delete(workspaceId)
    else this.#underWay.set(workspaceId, others)
    this.#underWayInAll -= 1
  }

  #nextWorkspace(allotted: Allotted): string | null {
    for (const workspaceId of this.#waiting.keys()) {
      if (this.#room(workspaceId, allotted) > 0) return workspaceId
    }
    return null
  }

  #room(workspaceId: string, allotted: Allotted): number {
    const { attemptsMax, workspaceAttemptsMax } = this.#options
    const inAll = attemptsMax - this.#underWayInAll - allotted.inAll
    return Math.min(inAll, workspaceAttemptsMax - this.#underWayOf(workspaceId) - allotted.of(workspaceId))
  }

  #underWayOf(workspaceId: string): number {
    return this.#underWay.get(workspaceId) ?? 0
  }

  /** The webhook that is next in the workspace, whose other webhooks wait behind all workspaces now. */
  #takeFirst(workspaceId: string): string {
    const webhooks = this.#waiting.get(workspaceId) ?? new Set()
    const [first] = webhooks
    if (first === undefined) throw new Error(`No webhook of workspace ${workspaceId} waits.`)
    webhooks.delete(first)
    this.#waiting.delete(workspaceId)
    if (webhooks.size > 0) this.#waiting.set(workspaceId, webhooks)
    return first
  }
}

/** What has been given to turns, and is not under way yet. */
class Allotted {
  inAll = 0
  readonly #byWorkspace = new Map<string, number>()

  of(workspaceId: string): number {
    return this.#byWorkspace.get(workspaceId) ?? 0
  }

  add(workspaceId: string, attempts: number): void {
    this.#byWorkspace.set(workspaceId, this.of(workspaceId) + attempts)
    this.inAll += attempts
  }
}
