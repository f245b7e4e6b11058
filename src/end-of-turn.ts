let actions: (() => void)[] = []

/**
 * Runs `action` when this turn of the event loop has read all that it had to read, together with the others that asked
 * for it. To write to a socket wakes whoever reads it, which costs as much as the rest of a small answer: when a turn's
 * writes come in a row, a busy reader is woken once.
 */
export function atEndOfTurn(action: () => void): void {
  actions.push(action)
  if (actions.length === 1) setImmediate(runAll)
}

function runAll(): void {
  const due = actions
  actions = []
  for (const action of due) action()
}
