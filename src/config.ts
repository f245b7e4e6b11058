import { StartError } from './errors.ts'
import { canonicalHostname } from './hostname.ts'
import { fallbackModes } from './limits/fallback-counters.ts'
import { logLevels } from './log.ts'

/**
 * The only reader of the environment: a table of settings, and a pure function from the environment and
 * the flags of `serve` to a `Config`. A setting that does not exist or does not parse stops the start with a
 * sentence that names it (contract §2).
 */
export const settings = {
  dataDir: {
    variable: 'TOLLGATE_DATA_DIR',
    fallback: './.tollgate',
    meaning: 'Folder of the embedded database, the journal and generated secrets.',
    parse: text,
  },
  databaseUrl: {
    variable: 'TOLLGATE_DATABASE_URL',
    fallback: null,
    meaning: 'PostgreSQL 15 or later that several nodes share, postgres://…. The embedded SQLite when not set.',
    parse: postgresUrl,
  },
  redisUrl: {
    variable: 'TOLLGATE_REDIS_URL',
    fallback: null,
    meaning:
      'Redis 7 or Valkey 8, single or cluster, that keeps the limit counters of several nodes, redis://… or rediss://…. In this process when not set.',
    parse: redisUrl,
  },
  limitsFallback: {
    variable: 'TOLLGATE_LIMITS_FALLBACK',
    fallback: 'local',
    meaning: 'While Redis is away: local, each node enforces limits alone; reject, inference answers 503.',
    parse: oneOf(fallbackModes),
  },
  inferenceListen: {
    variable: 'TOLLGATE_INFERENCE_LISTEN',
    fallback: '127.0.0.1:8000',
    meaning: 'Address of the inference listener, host:port; port 0 takes a free one.',
    parse: listenAddress,
  },
  managementListen: {
    variable: 'TOLLGATE_MANAGEMENT_LISTEN',
    fallback: '127.0.0.1:8001',
    meaning: 'Address of the management listener, host:port; port 0 takes a free one.',
    parse: listenAddress,
  },
  operatorKey: {
    variable: 'TOLLGATE_OPERATOR_KEY',
    fallback: null,
    meaning: 'Operator key. Generated and kept in the data folder when not set.',
    parse: key,
  },
  bootstrapKey: {
    variable: 'TOLLGATE_BOOTSTRAP_KEY',
    fallback: null,
    meaning:
      'Full-access key of the first workspace, made when the database is empty. Generated and printed once when not set.',
    parse: key,
  },
  masterKey: {
    variable: 'TOLLGATE_MASTER_KEY',
    fallback: null,
    meaning: '32 bytes in base64 that encrypt stored secrets. Generated and kept in the data folder when not set.',
    parse: masterKey,
  },
  reservedHostnames: {
    variable: 'TOLLGATE_RESERVED_HOSTNAMES',
    fallback: null,
    meaning:
      'Hostnames, separated by commas, that no workspace may claim for itself: those under which several labs are served.',
    parse: hostnames,
  },
  workers: {
    variable: 'TOLLGATE_WORKERS',
    fallback: '1',
    meaning: 'Processes that serve inference, on one address and under the same limits. 1: the main process serves.',
    parse: wholeNumber({ least: 1, most: 256 }),
  },
  logLevel: {
    variable: 'TOLLGATE_LOG_LEVEL',
    fallback: 'info',
    meaning: `How much is logged: ${logLevels.join(', ')}.`,
    parse: oneOf(logLevels),
  },
  journalSync: {
    variable: 'TOLLGATE_JOURNAL_SYNC',
    fallback: 'normal',
    meaning: 'What a billing event survives before its response ends: normal, a killed process; full, a power cut too.',
    parse: oneOf(['normal', 'full']),
  },
  ledgerRetentionDays: {
    variable: 'TOLLGATE_LEDGER_RETENTION_DAYS',
    fallback: '400',
    meaning: 'How long billing events are kept, in days. Events that a webhook has still to deliver stay longer.',
    parse: wholeNumber({ least: 1, most: 36_500 }),
  },
  connectionsMax: {
    variable: 'TOLLGATE_CONNECTIONS_MAX',
    fallback: '10000',
    meaning:
      'How many clients may be connected to each process that serves inference; fewer where it may not open files enough. More are turned away.',
    parse: wholeNumber({ least: 1, most: 1_000_000 }),
  },
  requestBodyBytesMax: {
    variable: 'TOLLGATE_REQUEST_BODY_BYTES_MAX',
    fallback: String(32 * 1024 * 1024),
    meaning: 'Largest body of an inference request, in bytes.',
    parse: wholeNumber({ least: 1024, most: 1024 * 1024 * 1024 }),
  },
  requestBodyTimeoutMs: {
    variable: 'TOLLGATE_REQUEST_BODY_TIMEOUT_MS',
    fallback: '60000',
    meaning: 'How long a client may take to send its request, in milliseconds.',
    parse: wholeNumber({ least: 100, most: 3_600_000 }),
  },
  connectTimeoutMs: {
    variable: 'TOLLGATE_CONNECT_TIMEOUT_MS',
    fallback: '5000',
    meaning: 'How long a connection to an upstream may take, in milliseconds.',
    parse: wholeNumber({ least: 10, most: 600_000 }),
  },
  firstByteTimeoutMs: {
    variable: 'TOLLGATE_FIRST_BYTE_TIMEOUT_MS',
    fallback: '600000',
    meaning: 'How long an upstream may take to its first byte, in milliseconds.',
    parse: wholeNumber({ least: 10, most: 3_600_000 }),
  },
  idleTimeoutMs: {
    variable: 'TOLLGATE_IDLE_TIMEOUT_MS',
    fallback: '300000',
    meaning: 'How long an upstream may pause within a response, in milliseconds.',
    parse: wholeNumber({ least: 10, most: 3_600_000 }),
  },
  shutdownDelayMs: {
    variable: 'TOLLGATE_SHUTDOWN_DELAY_MS',
    fallback: '0',
    meaning:
      'How long requests are still taken after SIGTERM, while /health/ready says 503 and proxies turn away, in milliseconds.',
    parse: wholeNumber({ least: 0, most: 600_000 }),
  },
  shutdownTimeoutMs: {
    variable: 'TOLLGATE_SHUTDOWN_TIMEOUT_MS',
    fallback: '30000',
    meaning: 'How long requests in flight may take to finish after SIGTERM, in milliseconds.',
    parse: wholeNumber({ least: 0, most: 3_600_000 }),
  },
} as const satisfies Record<string, Setting>

export interface Setting {
  variable: `TOLLGATE_${string}`
  fallback: string | null
  meaning: string
  /** Returns the value, or throws an Error whose message completes "VARIABLE must …". */
  parse: (text: string) => unknown
}

export interface ListenAddress {
  host: string
  port: number
}

type SettingName = keyof typeof settings

export type Config = {
  readonly [Name in SettingName]: (typeof settings)[Name]['fallback'] extends null
    ? ReturnType<(typeof settings)[Name]['parse']> | null
    : ReturnType<(typeof settings)[Name]['parse']>
}

/**
 * The configuration of one process. `flags` are values given on the command line, by variable name; they
 * win over the environment. Throws `StartError` on an unknown or malformed setting.
 */
export function readConfig(
  environment: Record<string, string | undefined>,
  flags: Record<string, string | undefined> = {},
): Config {
  const known = new Set<string>(Object.values(settings).map((setting) => setting.variable))
  for (const name of Object.keys(environment)) {
    if (name.startsWith('TOLLGATE_') && !known.has(name)) {
      throw new StartError(`${name} is not a setting of Tollgate. \`tollgate serve --help\` lists them all.`)
    }
  }
  const read = ({ variable, fallback, parse }: Setting) => {
    const given = flags[variable] ?? environment[variable] ?? fallback
    if (given === null) return null
    try {
      return parse(given)
    } catch (error) {
      throw new StartError(`${variable} must ${error instanceof Error ? error.message : String(error)}.`)
    }
  }
  const config = Object.fromEntries(Object.entries(settings).map(([name, setting]) => [name, read(setting)])) as Config
  refuseKeyOfTwoKinds(config)
  return config
}

/** One key would then open what belongs to the operator and what belongs to a lab (contract §3). */
function refuseKeyOfTwoKinds({ operatorKey, bootstrapKey }: Config): void {
  if (operatorKey === null || operatorKey !== bootstrapKey) return
  const [operator, bootstrap] = [settings.operatorKey.variable, settings.bootstrapKey.variable]
  throw new StartError(`${operator} must be another key than ${bootstrap}, which is a key of a workspace.`)
}

/** The process's own environment, for the command line to hand to `readConfig`. */
export function processEnvironment(): Record<string, string | undefined> {
  return process.env
}

function text(given: string): string {
  if (given === '') throw new Error('not be empty')
  return given
}

function key(given: string): string {
  const isPrintable = /^[\x21-\x7e]{1,256}$/.test(given)
  // Lists and logs show what stands before the dot, or the first 16 characters: enough must stay secret.
  const hidesEnough = /^[^.]+\..{16,}$/.test(given) || (!given.includes('.') && given.length >= 32)
  if (!isPrintable || !hidesEnough) {
    throw new Error(
      'be a prefix, a dot and at least 16 characters, or at least 32 characters without a dot; at most 256 in all, printable ASCII without spaces',
    )
  }
  return given
}

function masterKey(given: string): Buffer {
  const bytes = Buffer.from(given, 'base64')
  if (bytes.length !== 32) throw new Error(`be 32 bytes in base64; it decodes to ${bytes.length}`)
  return bytes
}

function hostnames(given: string): string[] {
  return given.split(',').map((name) => {
    const hostname = canonicalHostname(name.trim())
    if (hostname === null) throw new Error('be hostnames separated by commas, like gateway.example.com')
    return hostname
  })
}

function postgresUrl(given: string): string {
  const isPostgres = /^postgres(ql)?:\/\/./.test(given) && URL.canParse(given)
  if (!isPostgres) throw new Error('be a URL like postgres://user:password@host:5432/database')
  return given
}

function redisUrl(given: string): string {
  const isRedis = /^rediss?:\/\/./.test(given) && URL.canParse(given)
  if (!isRedis) throw new Error('be a URL like redis://user:password@host:6379/0')
  return given
}

function listenAddress(given: string): ListenAddress {
  const match = /^(?:\[(?<ipv6>[0-9a-fA-F:.]+)\]|(?<host>[^:[\]]+)):(?<port>\d{1,5})$/.exec(given)
  const port = Number(match?.groups?.['port'])
  if (!match?.groups || port > 65_535) throw new Error(`be host:port, like 127.0.0.1:8000; it is '${given}'`)
  return { host: match.groups['ipv6'] ?? match.groups['host'] ?? '', port }
}

function oneOf<const Value extends string>(values: readonly Value[]): (given: string) => Value {
  return (given) => {
    const value = values.find((candidate) => candidate === given)
    if (value === undefined) throw new Error(`be one of ${values.join(', ')}; it is '${given}'`)
    return value
  }
}

function wholeNumber({ least, most }: { least: number; most: number }): (given: string) => number {
  return (given) => {
    const value = Number(given)
    if (!/^\d+$/.test(given) || value < least || value > most) {
      throw new Error(`be a whole number from ${least} to ${most}; it is '${given}'`)
    }
    return value
  }
}
