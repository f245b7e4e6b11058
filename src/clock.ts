/**
 * Time and timers, injected everywhere so that tests can own them. The only file that reads the
 * system's clock or starts a timer.
 */
export interface Clock {
  /** Wall-clock time in milliseconds since the Unix epoch. May jump; dates and records use it. */
  now(): number
  /** Milliseconds from an arbitrary start. Never goes back; durations and rolling windows use it. */
  monotonic(): number
  /** Calls `callback` once after `delayMs`, unless cancelled first. Does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer
}

export interface Timer {
  cancel(): void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs)
    timeout.unref()
    return { cancel: () => clearTimeout(timeout) }
  },
}

/** Keeps the process alive until it is disposed of, also while all that it does is wait for a timer of the clock. */
export function keepAlive(): Disposable {
  const handle = setInterval(() => {}, timeoutMsMax)
  return { [Symbol.dispose]: () => clearInterval(handle) }
}

/** What Node's timers can count. */
const timeoutMsMax = 2 ** 31 - 1

/** Calls `action` every `everyMs`, the first time after that, until it is cancelled. */
export function repeat(clock: Clock, everyMs: number, action: () => void): Timer {
  const next = (): Timer =>
    clock.after(everyMs, () => {
      timer = next()
      action()
    })
  let timer = next()
  return { cancel: () => timer.cancel() }
}

/** What `work` comes to; rejects with what `late` makes when that takes longer than `withinMs`. The work itself goes on. */
export async function inTime<Result>(
  clock: Clock,
  work: Promise<Result>,
  { withinMs, late }: { withinMs: number; late: () => Error },
): Promise<Result> {
  const deadline = Promise.withResolvers<never>()
  const timer = clock.after(withinMs, () => deadline.reject(late()))
  try {
    return await Promise.race([work, deadline.promise])
  } finally {
    timer.cancel()
  }
}

/** Resolves after `delayMs`, or at once when `signal` aborts; never rejects. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const finish = () => {
      timer.cancel()
      signal?.removeEventListener('abort', finish)
      resolve()
    }
    const timer = clock.after(delayMs, finish)
    signal?.addEventListener('abort', finish, { once: true })
  })
}

/** The UTC calendar day of a wall-clock time, as `YYYY-MM-DD`: the identity of a day's counters. */
export function utcDay(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(0, 10)
}

/** The wall-clock time at which the UTC day after `epochMs` begins. */
export function nextUtcDay(epochMs: number): number {
  const dayMs = 86_400_000
  return (Math.floor(epochMs / dayMs) + 1) * dayMs
}
