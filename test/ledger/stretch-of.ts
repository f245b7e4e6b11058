import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventRecord } from '../../src/ledger/journal-record.ts'
import type { JournalStretch } from '../../src/ledger/journal-stretch.ts'

/** A file in `folder` that holds `texts` as a segment does, to be read as one batch. */
export function stretchOf(folder: string, texts: readonly string[]): JournalStretch {
  const path = join(folder, `${randomUUID()}.log`)
  const records = Buffer.from(texts.map(eventRecord).join(''))
  writeFileSync(path, records)
  const { length } = texts
  return { segment: 1, path, from: 0, to: records.length, events: length, eventsMax: Math.max(1, length) }
}
