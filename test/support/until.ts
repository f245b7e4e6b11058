import { setTimeout as delay } from 'node:timers/promises'

/** Resolves with the first value of `look` that is not null, undefined or false; fails after `withinMs`. */
export async function until<Value>(
  look: () => Value | Promise<Value>,
  { withinMs = 10_000, everyMs = 5 }: { withinMs?: number; everyMs?: number } = {},
): Promise<NonNullable<Exclude<Value, false>>> {
  const deadlineMs = performance.now() + withinMs
  for (;;) {
    const value = await look()
    if (value !== null && value !== undefined && value !== false) return value as NonNullable<Exclude<Value, false>>
    if (performance.now() > deadlineMs) throw new Error(`Waited ${withinMs} ms in vain for ${look}.`)
    await delay(everyMs)
  }
}
