/** Resolves in the next turn of the event loop: what waits on sockets is served first. */
export function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
