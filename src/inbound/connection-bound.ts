import { z } from 'zod'

/**
 * How many clients may be connected to this process at a time: as many as the settings allow, and no more than leave a
 * quarter of the files that it may open to the journal, the databases and all else. Each takes up to two: its own
 * connection, and the upstream's.
 */
export function connectionBound({ allowed, openFilesMax }: { allowed: number; openFilesMax: number }): number {
  return Math.max(1, Math.min(allowed, Math.floor((openFilesMax * 3) / 8)))
}

/** How many files, connections included, this process may have open at a time; Infinity where nothing says. */
export function openFilesMax(): number {
  // It would look up the names of open connections. Node has the property since 22; its types do not.
  Object.assign(process.report, { excludeNetwork: true })
  const soft = Report.parse(process.report.getReport()).userLimits?.open_files.soft
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY
}

const Limit = z.object({ soft: z.union([z.number(), z.literal('unlimited')]) })
const Report = z.object({ userLimits: z.object({ open_files: Limit }).optional() })
