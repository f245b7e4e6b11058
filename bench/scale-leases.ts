/**
 * Local leases of quota, as they would be built: a node takes a block of admissions from the counter and admits from it by
 * itself. What is leased counts as used, so the threshold holds; a node may refuse while another one has some left.
 */
export interface LeasedDay {
  threshold: number
  nodes: number
  /** Admissions in a block. `shrinking`: never more than an even share of half of what is left, and 1 at the end. */
  block: number
  shrinking: boolean
  requests: number
  random: () => number
}

export interface LeasedOutcome {
  admitted: number
  /** Refused although the threshold was not reached: what was left lay with other nodes. */
  refusedEarly: number
  /** Of the threshold, what nodes still hold at the end. */
  stranded: number
  /** Calls of the counter, those that it refused included. */
  calls: number
}

export function leaseThroughADay({ threshold, nodes, block, shrinking, requests, random }: LeasedDay): LeasedOutcome {
  const held = new Map<number, number>()
  let left = threshold
  const outcome = { admitted: 0, refusedEarly: 0, stranded: 0, calls: 0 }
  for (let request = 0; request < requests; request++) {
    const node = Math.floor(random() * nodes)
    let here = held.get(node) ?? 0
    if (here === 0) {
      outcome.calls += 1
      const fair = shrinking ? Math.max(1, Math.floor(left / (2 * nodes))) : block
      here = Math.min(block, fair, left)
      left -= here
    }
    if (here > 0) outcome.admitted += 1
    else if (outcome.admitted < threshold) outcome.refusedEarly += 1
    held.set(node, Math.max(0, here - 1))
  }
  outcome.stranded = [...held.values()].reduce((total, here) => total + here, 0)
  return outcome
}
