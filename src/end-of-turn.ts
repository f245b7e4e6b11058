let actions: (() => void)[] = []
let isEnding = false

/**
 * Runs `action` when this turn of the event loop has read all that it had to read, together with the others that asked
 * for it. To write to a socket wakes whoever reads it, which costs as much as the rest of a small answer: when a turn's
 * writes come in a row, a busy reader is woken once.
 *
 * What is asked for by an action, or by whoever awaited one, still belongs to this turn: an answer that waits for the
 * journal's commit leaves right after it.
 */
export function atEndOfTurn(action: () => void): void {
  actions.push(action)
  if (actions.length > 1) return
  if (isEnding) process.nextTick(runAll)
  else setImmediate(endTurn)
}

function endTurn(): void {
  isEnding = true
  runAll()
  // Ticks come when no microtask is left: by then all that the actions' promises set off has been done.
  queueMicrotask(() => process.nextTick(turnEnded))
}

function turnEnded(): void {
  isEnding = false
}

function runAll(): void {
  const due = actions
  actions = []
  for (const action of due) action()
}
