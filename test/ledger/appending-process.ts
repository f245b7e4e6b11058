import { closeSync, readdirSync, readlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { openJournal } from '../../src/ledger/journal.ts'
import { takeTexts } from './journal-texts.ts'
import { quiet } from './quiet-parts.ts'
import { sampleEvent } from './sample-event.ts'

/**
 * A process of its own for tests that take the disk away. It has the journal in the folder of its first argument open,
 * obeys the commands that come as lines on stdin, and answers each with a line of JSON.
 */
const journal = openJournal({ path: join(process.argv[2] ?? '', 'journal.db'), sync: 'normal', ...quiet })

const commands: Record<string, () => Promise<unknown> | unknown> = { append, remove, 'lose-files': loseFiles }

for await (const line of createInterface({ input: process.stdin })) {
  writeSync(1, `${JSON.stringify(await commands[line]?.())}\n`)
}

/** Appends 100 events, one after the other. */
async function append() {
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
  return { acknowledged, refusals, depth: journal.depth() }
}

function remove() {
  takeTexts(journal, 1_000)
  return { depth: journal.depth() }
}

/** Closes the journal's files behind its back, as when a volume goes away and comes back. */
function loseFiles() {
  const open = readdirSync('/proc/self/fd').filter((descriptor) => linkOf(descriptor).includes('/journal.'))
  for (const descriptor of open) closeSync(Number(descriptor))
  return { lost: open.length }
}

function linkOf(descriptor: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`)
  } catch {
    return ''
  }
}
