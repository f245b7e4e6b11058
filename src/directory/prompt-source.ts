import { type Clock, sleep } from '../clock.ts'
import { UnavailableError } from '../errors.ts'
import type { DirectorySource } from './directory.ts'

/**
 * `source`, with an answer within `answerMs` or an `UnavailableError`: who presents a key that is not at hand learns
 * soon that it cannot be looked up, and does not hold a connection for as long as a database may take to fail.
 */
export function promptSource(
  source: DirectorySource,
  { clock, answerMs = 2_000 }: { clock: Clock; answerMs?: number },
): DirectorySource {
  const inTime = async <Answer>(reading: Promise<Answer>): Promise<Answer> => {
    const answered = new AbortController()
    const late = sleep(clock, answerMs, answered.signal).then(() => {
      throw new UnavailableError(`The database has not answered within ${answerMs} ms.`)
    })
    // The one that loses the race has nobody else to tell.
    late.catch(() => {})
    reading.catch(() => {})
    try {
      return await Promise.race([reading, late])
    } finally {
      answered.abort()
    }
  }
  return {
    key: (hash) => inTime(source.key(hash)),
    groupPath: (groupId) => inTime(source.groupPath(groupId)),
    endpoint: (slug) => inTime(source.endpoint(slug)),
    slugs: (workspaceId) => inTime(source.slugs(workspaceId)),
    domains: () => inTime(source.domains()),
  }
}
