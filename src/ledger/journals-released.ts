import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, sleep } from '../clock.ts'
import { StartError } from '../errors.ts'
import type { Log } from '../log.ts'
import { isBusy } from '../storage/sqlite-dialect.ts'
import { holdJournalLock } from './journal-lock.ts'
import { presentJournals } from './left-journals.ts'

/** Longer than the workers of a main process that was killed take to end. */
const releaseMsMax = 20_000
const retryMs = 100

/**
 * Resolves once no other process has a journal of `folder` open. Those of a server that was killed are a moment behind
 * it: where one has workers, their last requests. Throws `StartError`, with the name of what stays.
 */
export async function journalsReleased(folder: string, { clock, log }: { clock: Clock; log: Log }): Promise<void> {
  const deadlineMs = clock.monotonic() + releaseMsMax
  let hasWarned = false
  for (const path of presentJournals(folder).map((name) => join(folder, name))) {
    while (isHeld(path)) {
      const message = `${holderOf(path)} has the journal ${path} open`
      if (clock.monotonic() >= deadlineMs) {
        throw new StartError(
          `${message}, for longer than ${releaseMsMax / 1_000} s. Stop it: one server at a time can use a data folder.`,
        )
      }
      if (!hasWarned) log.warn(`${message}; waiting for it to end`)
      hasWarned = true
      await sleep(clock, retryMs)
    }
  }
}

/** What is wrong with the file beyond that is for whoever opens it to say. */
function isHeld(path: string): boolean {
  try {
    holdJournalLock(path).release()
    return false
  } catch (error) {
    return isBusy(error)
  }
}

/** proc_locks(5): kind, mode, access, process, device and inode, range. */
function holderOf(path: string): string {
  try {
    const { ino } = statSync(path)
    const lock = readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .find((line) => line.includes(`:${ino} `))
    const pid = / (\d+) \S+:\S+:\d+ /.exec(lock ?? '')?.[1]
    if (pid !== undefined) return `Process ${pid}`
  } catch {
    // Not on Linux.
  }
  return 'Another process'
}
