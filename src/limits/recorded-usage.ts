import { type Clock, sleep } from '../clock.ts'
import type { Log } from '../log.ts'
import type { DaySum } from './counter-store.ts'

/** What the ledger has of a hierarchy's UTC day. */
export type ReadUsage = (query: { day: string; hierarchy: string }) => Promise<readonly DaySum[]>

/** The same, in time; null where the ledger does not answer. Never rejects. */
export type RecordedUsage = (query: { day: string; hierarchy: string }) => Promise<readonly DaySum[] | null>

/** Requests wait for this: the ledger has half a second. */
export function recordedUsageInTime(read: ReadUsage, { clock, log }: { clock: Clock; log: Log }): RecordedUsage {
  return async (query) => {
    const inTime = new AbortController()
    const asked = read(query).catch((error: unknown) => {
      log.warn({ err: error }, 'the ledger cannot say what was used today; limits count from what this node knows')
      return null
    })
    const sums = await Promise.race([asked, sleep(clock, 500, inTime.signal).then(() => null)])
    inTime.abort()
    return sums
  }
}
