/** How many turns the event loop makes while `work` is under way: one, for work that is done in one go. */
export async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0
  let isOver = false
  const countTurn = () => {
    turns += 1
    if (!isOver) setImmediate(countTurn)
  }
  setImmediate(countTurn)
  await work()
  isOver = true
  return turns
}
