import {
  type ColumnDefinitionNode,
  DataTypeNode,
  type KyselyPlugin,
  OperationNodeTransformer,
  type PluginTransformQueryArgs,
  type PluginTransformResultArgs,
  type QueryResult,
  RawNode,
  type RootOperationNode,
  type UnknownRow,
} from 'kysely'
import { StartError } from '../errors.ts'
import { Database } from './database.ts'
import { type PostgresOptions, postgresDialect } from './postgres-dialect.ts'

/** Long enough for an index over a large table, and for another node that makes one. */
const migrationMs = 3_600_000

/**
 * Opens the database at `url`, in its newest form. Of nodes that start at once, one migrates and the others wait for
 * it. Throws `StartError` where the server cannot be reached, or refuses.
 */
export async function openPostgresDatabase(options: PostgresOptions): Promise<Database> {
  try {
    await using migrating = unhurriedDatabase(options)
    await migrating.migrate()
  } catch (cause) {
    throw unusable(options, cause)
  }
  return new Database(postgresDialect(options))
}

/** Opens the database at `url` as it is, for work that takes as long as it takes. Throws `StartError`. */
export async function openPostgresRecord(options: PostgresOptions): Promise<Database> {
  await using opened = new AsyncDisposableStack()
  const database = opened.use(unhurriedDatabase(options))
  await database.assertNewest().catch((cause) => {
    throw unusable(options, cause)
  })
  opened.move()
  return database
}

function unusable({ url }: PostgresOptions, cause: unknown): StartError {
  if (cause instanceof StartError) return cause
  const { host, pathname } = new URL(url)
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new StartError(`The database ${host}${pathname} of TOLLGATE_DATABASE_URL cannot be used: ${reason}.`, {
    cause,
  })
}

/** For work that takes as long as it takes, on one connection. */
export function unhurriedDatabase(options: PostgresOptions): Database {
  const dialect = postgresDialect({ ...options, connectionsMax: 2, statementMs: migrationMs })
  return new Database(dialect, { plugins: [new BytewiseText()] })
}

/**
 * Declares columns of text as ordered by their bytes, as SQLite's are, whatever the server's language: pages of a list
 * follow ids, and must come in the same order on both engines.
 */
class BytewiseText extends OperationNodeTransformer implements KyselyPlugin {
  transformQuery({ node }: PluginTransformQueryArgs): RootOperationNode {
    return this.transformNode(node)
  }

  async transformResult({ result }: PluginTransformResultArgs): Promise<QueryResult<UnknownRow>> {
    return result
  }

  protected override transformColumnDefinition(node: ColumnDefinitionNode): ColumnDefinitionNode {
    const { dataType } = node
    const isText = DataTypeNode.is(dataType) && dataType.dataType === 'text'
    return super.transformColumnDefinition(
      isText ? { ...node, dataType: RawNode.createWithSql('text collate "C"') } : node,
    )
  }
}
