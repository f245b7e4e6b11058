import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { openJournal } from '../../src/ledger/journal.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvent } from './sample-event.ts'

/**
 * A process of its own for tests that take the disk away. For each line on stdin it appends 100 events, one after the
 * other, to the journal in the folder of its first argument, and says which were acknowledged and how many refused.
 */
const journal = openJournal({ path: join(process.argv[2] ?? '', 'journal.db'), sync: 'normal', ...quiet })

process.stdin.on('data', async () => {
  const acknowledged: string[] = []
  const refusals: string[] = []
  for (let count = 0; count < 100; count += 1) {
    const event = sampleEvent({ requestMetadata: JSON.stringify({ note: 'x'.repeat(2_000) }) })
    try {
      await journal.append(event)
      acknowledged.push(event.idempotencyKey)
    } catch (error) {
      refusals.push(error instanceof Error ? error.name : String(error))
    }
  }
  writeSync(1, `${JSON.stringify({ acknowledged, refusals })}\n`)
})
