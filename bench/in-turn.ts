/** All of them in the order of a round: every other one goes the other way, so that nobody always stands behind the same one. */
export function inTurn<One>(all: readonly One[], round: number): readonly One[] {
  return round % 2 === 1 ? all : all.toReversed()
}
