import assert from 'node:assert/strict'
import { Group } from '../../src/directory/group.ts'
import type { GroupOnPath, LimitEnforcement } from '../../src/limits/effective-limits.ts'

/** The group at the start of the path as the inference plane has it. */
export function inferenceGroup([own, ...above]: readonly GroupOnPath[], limitEnforcement: LimitEnforcement): Group {
  assert.ok(own)
  const parent = above.length === 0 ? null : inferenceGroup(above, limitEnforcement)
  const record = { ...own, workspaceId: 'lab', externalEntityId: own.id, limitEnforcement }
  return new Group(record, parent === null ? [] : [parent, ...parent.ancestors])
}
