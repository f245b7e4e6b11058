import type { Migration } from 'kysely/migration'
import { firstTables } from './0001-first-tables.ts'

/** Applied in the order of their names, each once; a name never changes after a release. */
export const migrations: Record<string, Migration> = {
  '0001-first-tables': firstTables,
}
