import { type Clock, inTime } from '../clock.ts'
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
  const late = () => new UnavailableError(`The database has not answered within ${answerMs} ms.`)
  const prompt = <Answer>(reading: Promise<Answer>) => inTime(clock, reading, { withinMs: answerMs, late })
  return {
    key: (hash) => prompt(source.key(hash)),
    groupPath: (groupId) => prompt(source.groupPath(groupId)),
    endpoint: (slug) => prompt(source.endpoint(slug)),
    slugs: (workspaceId) => prompt(source.slugs(workspaceId)),
    domains: () => prompt(source.domains()),
  }
}
