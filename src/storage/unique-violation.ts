/**
 * Runs a write, and throws what `refusal` makes where another row already holds a value that must be unique. Two
 * writers at once both find no such row beforehand; the constraint is what decides between them.
 */
export async function refuseDuplicate<Result>(write: Promise<Result>, refusal: () => Error): Promise<Result> {
  try {
    return await write
  } catch (error) {
    throw isUniqueViolation(error) ? refusal() : error
  }
}

/** Whether the database refused a write because of a unique constraint, whichever engine is underneath. */
export function isUniqueViolation(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { errcode, code } = error as { errcode?: unknown; code?: unknown }
  return (typeof errcode === 'number' && sqliteUniqueCodes.includes(errcode)) || code === postgresUniqueCode
}

/** SQLITE_CONSTRAINT_PRIMARYKEY and SQLITE_CONSTRAINT_UNIQUE, as `node:sqlite` reports them. */
const sqliteUniqueCodes = [1555, 2067]

/** unique_violation of PostgreSQL's SQLSTATE list. */
const postgresUniqueCode = '23505'
