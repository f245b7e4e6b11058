import type { RateLimitUnit } from './effective-limits.ts'
import { RollingWindow, windowMemoryMs } from './rolling-window.ts'

/**
 * The rolling windows in use, in two generations. One lasts as long as any window remembers; a window that was not
 * asked for during a whole generation is therefore empty, and leaves with all others of its kind at once. Nothing is
 * ever swept one by one, and memory holds what two generations of traffic asked for.
 */
export class WindowTable {
  #current = new Map<string, RollingWindow>()
  #previous = new Map<string, RollingWindow>()
  #currentSinceMs = 0

  /** The window of the counter `key`, a new one if none is in use. */
  window(key: string, unit: RateLimitUnit, nowMs: number): RollingWindow {
    this.#turnOver(nowMs)
    const known = this.#current.get(key)
    if (known !== undefined) return known

    const window = this.#previous.get(key) ?? new RollingWindow(unit)
    this.#current.set(key, window)
    return window
  }

  #turnOver(nowMs: number): void {
    if (nowMs - this.#currentSinceMs < windowMemoryMs) return
    this.#previous = this.#current
    this.#current = new Map()
    this.#currentSinceMs = nowMs
  }
}
