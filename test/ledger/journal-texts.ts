import type { Journal } from '../../src/ledger/journal.ts'
import { readStretch } from '../../src/ledger/journal-stretch.ts'

type Held = Pick<Journal, 'stretches' | 'remove'>

/** All that `journal` holds, oldest first, in the form of `eventText`. */
export function textsIn(journal: Pick<Held, 'stretches'>): string[] {
  return journal.stretches(Number.POSITIVE_INFINITY).flatMap((stretch) => readStretch(stretch).texts)
}

/** The same for the oldest `max`, which are removed as the shipper does it. */
export function takeTexts(journal: Held, max = Number.POSITIVE_INFINITY): string[] {
  const [oldest] = max === 0 ? [] : journal.stretches(max)
  if (oldest === undefined) return []
  const { texts, reading } = readStretch(oldest)
  journal.remove(oldest, reading)
  return [...texts, ...takeTexts(journal, max - texts.length)]
}
