import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { openLog } from '../log.ts'
import { type Journal, openJournal } from './journal.ts'
import { type ShipperOptions, startShipper } from './shipper.ts'

type Parts = Omit<ShipperOptions, 'journal'> & { metrics: Parameters<typeof openJournal>[0]['metrics'] }

/**
 * Ships what is in the journals of `folder` that no process of this start will open: an earlier one had more
 * workers, or fewer. Their locks stay.
 */
export async function shipLeftJournals(folder: string, opened: readonly string[], parts: Parts): Promise<void> {
  const left = presentJournals(folder).filter((name) => !opened.includes(name))
  for (const name of left) {
    await using journal = openJournal({ path: join(folder, name), sync: 'normal', ...parts })
    await using shipper = startShipper({ journal, ...parts })
    await shipper.flush()
  }
}

/** The journals' file names: one for each process that serves inference. */
export function journalNames(workers: number): string[] {
  return workers === 1 ? ['journal.db'] : Array.from({ length: workers }, (_, index) => `journal-${index + 1}.db`)
}

/** The file names of all journals in `folder`. */
export function presentJournals(folder: string): string[] {
  const files = readdirSync(folder).map((name) => /^(journal(?:-\d+)?)\.(?:db|\d+\.log)$/.exec(name)?.[1])
  return [...new Set(files.filter((stem) => stem !== undefined))].map((stem) => `${stem}.db`)
}

/**
 * Opens all journals of `folder`, also that of a server that has not started there yet. A server has its own open, one
 * for each process: whoever has them all knows that none runs on the folder, nor can start. Throws `StartError`.
 */
export function holdJournals(folder: string): AsyncDisposable & { journals: readonly Journal[] } {
  const held = new AsyncDisposableStack()
  const quiet = { sync: 'normal', log: openLog({ level: 'silent' }), metrics: { journalDepth() {} } } as const
  const names = new Set([...journalNames(1), ...presentJournals(folder)])
  const journals = [...names].map((name) => held.use(openJournal({ path: join(folder, name), ...quiet })))
  return { journals, [Symbol.asyncDispose]: () => held.disposeAsync() }
}
