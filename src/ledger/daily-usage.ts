import { utcDay } from '../clock.ts'
import type { UsageDailyRow } from '../storage/tables.ts'
import type { BillingEvent } from './billing-event.ts'

const dayMs = 86_400_000

/**
 * What `events` add to the roll-up: one row for each UTC day of admission, counted
 * group, slug and counting process among them.
 */
export function dailyUsage(events: readonly BillingEvent[]): UsageDailyRow[] {
  const rows = new Map<string, UsageDailyRow>()
  for (const { workspaceId, admittedAtMs, countedGroups, modelSlug, node, tokens } of events) {
    const dayNumber = Math.floor(admittedAtMs / dayMs)
    for (const groupId of countedGroups) {
      const key = `${dayNumber} ${groupId} ${modelSlug} ${node}`
      let row = rows.get(key)
      if (row === undefined) {
        row = noUsage({
          workspace_id: workspaceId,
          day: utcDay(admittedAtMs),
          group_id: groupId,
          slug: modelSlug,
          node,
        })
        rows.set(key, row)
      }
      row.requests += 1
      row.input_tokens += tokens.inputTokens
      row.output_tokens += tokens.outputTokens
      row.cached_input_tokens += tokens.cachedInputTokens
    }
  }
  return [...rows.values()]
}

function noUsage(key: Pick<UsageDailyRow, 'workspace_id' | 'day' | 'group_id' | 'slug' | 'node'>): UsageDailyRow {
  return { ...key, requests: 0, input_tokens: 0, output_tokens: 0, cached_input_tokens: 0 }
}
