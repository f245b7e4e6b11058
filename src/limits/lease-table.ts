import { TransientMap } from '../transient-map.ts'

/** A settlement is still counted this long after the lease ran out, and its reservation is remembered as long. */
const lateSettlementMs = 24 * 60 * 60 * 1_000

interface Lease<Held> {
  held: Held
  endsAtMs: number
}

type Leases<Id, Held> = Pick<Map<Id, Lease<Held>>, 'get' | 'delete'>

/**
 * What is held under a lease, by id. All leases of a table have one length, so those that end first stand first, and
 * looking for ended ones costs nothing until the first of them may have.
 */
export class LeaseTable<Id, Held> {
  readonly #leaseMs: number
  readonly #live = new TransientMap<Id, Lease<Held>>()
  readonly #ended = new Map<Id, Lease<Held>>()
  #noneEndsBeforeMs = 0

  constructor(leaseMs: number) {
    this.#leaseMs = leaseMs
  }

  /** Holds for one lease from now. To renew is to take and to hold again: the lease then stands behind all others. */
  hold(id: Id, held: Held, nowMs: number): void {
    this.#live.set(id, { held, endsAtMs: nowMs + this.#leaseMs })
  }

  /** What is held under this lease, which is then over; null if nothing is. */
  takeLive(id: Id): Held | null {
    return take(this.#live, id)
  }

  /** What was held under this lease when it ended by itself, and is then forgotten; null if nothing was. */
  takeEnded(id: Id): Held | null {
    return take(this.#ended, id)
  }

  /** Ends the leases that have run out, and gives what they held. */
  end(nowMs: number): Held[] {
    if (nowMs < this.#noneEndsBeforeMs) return []
    for (const [id, { endsAtMs }] of this.#ended) {
      if (endsAtMs + lateSettlementMs > nowMs) break
      this.#ended.delete(id)
    }

    const ended: Held[] = []
    this.#noneEndsBeforeMs = nowMs + this.#leaseMs
    for (const [id, lease] of this.#live) {
      if (lease.endsAtMs > nowMs) {
        this.#noneEndsBeforeMs = lease.endsAtMs
        break
      }
      this.#live.delete(id)
      this.#ended.set(id, lease)
      ended.push(lease.held)
    }
    return ended
  }
}

function take<Id, Held>(leases: Leases<Id, Held>, id: Id): Held | null {
  const lease = leases.get(id)
  if (lease === undefined) return null
  leases.delete(id)
  return lease.held
}
