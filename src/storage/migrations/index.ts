import type { Migration } from 'kysely/migration'
import { firstTables } from './0001-first-tables.ts'
import { webhooks } from './0002-webhooks.ts'
import { identity } from './0003-identity.ts'
import { idempotency } from './0004-idempotency.ts'
import { retention } from './0005-retention.ts'
import { customers } from './0006-customers.ts'
import { nodes } from './0007-nodes.ts'
import { usageByNode } from './0008-usage-by-node.ts'
import { masterKey } from './0009-master-key.ts'
import { boundedUsage } from './0010-bounded-usage.ts'
import { keyBounds } from './0011-key-bounds.ts'
import { childrenInOrder } from './0012-children-in-order.ts'

/** Applied in the order of their names, each once; a name never changes after a release. */
export const migrations: Record<string, Migration> = {
  '0001-first-tables': firstTables,
  '0002-webhooks': webhooks,
  '0003-identity': identity,
  '0004-idempotency': idempotency,
  '0005-retention': retention,
  '0006-customers': customers,
  '0007-nodes': nodes,
  '0008-usage-by-node': usageByNode,
  '0009-master-key': masterKey,
  '0010-bounded-usage': boundedUsage,
  '0011-key-bounds': keyBounds,
  '0012-children-in-order': childrenInOrder,
}
