import { openLog } from '../../src/log.ts'

/** A log that nobody reads and metrics that nobody scrapes. */
export const quiet = {
  log: openLog({ level: 'silent' }),
  metrics: { journalDepth: () => {}, shippingFailed: () => {} },
}
