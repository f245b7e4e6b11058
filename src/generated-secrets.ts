import { randomBytes, randomUUID } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { mintKey } from './access/api-key.ts'
import { settings } from './config.ts'
import { StartError } from './errors.ts'

/** Makes the data folder where there is none, readable by its owner alone. */
export function openDataDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw new StartError(`TOLLGATE_DATA_DIR must be a folder that can be written; ${path} is not.`, { cause })
  }
}

/** The operator key that the data folder keeps, made on first use. */
export function keptOperatorKey(dataDir: string): string {
  return kept(operatorKeyPath(dataDir), {
    make: () => mintKey('op_').key,
    parse: settings.operatorKey.parse,
    remedy: 'Write a key to it, or remove it: the next start makes another.',
  })
}

/**
 * The master key that the data folder keeps, made on first use. Without it stored secrets cannot be read. Throws
 * `StartError` while a rotation is unfinished: it is not known then which key the secrets are under.
 */
export function keptMasterKey(dataDir: string): Buffer {
  if (existsSync(nextMasterKeyPath(dataDir))) {
    throw new StartError('A rotation of the master key was interrupted; run `tollgate master-key rotate` to finish it.')
  }
  return presentMasterKey(dataDir)
}

/** The same, also while a rotation is unfinished: the key that secrets were under before it. */
export function presentMasterKey(dataDir: string): Buffer {
  return kept(masterKeyPath(dataDir), {
    make: newMasterKey,
    parse: settings.masterKey.parse,
    remedy: 'Put its copy in its place. Where no secret was ever stored, remove it: the next start makes another.',
  })
}

/** The key that is to take the present one's place: that of a rotation that was not finished, or a new one. */
export function keptNextMasterKey(dataDir: string): Buffer {
  return kept(nextMasterKeyPath(dataDir), {
    make: newMasterKey,
    parse: settings.masterKey.parse,
    remedy: 'Remove it: no secret is under a key that was never whole.',
  })
}

function newMasterKey(): string {
  return randomBytes(32).toString('base64')
}

/** Where a rotation keeps the key that is to take the present one's place. */
export function nextMasterKeyPath(dataDir: string): string {
  return `${masterKeyPath(dataDir)}.next`
}

/** Where the data folder keeps the master key. */
export function masterKeyPath(dataDir: string): string {
  return join(dataDir, 'master-key')
}

/** Where the data folder keeps the operator key. */
export function operatorKeyPath(dataDir: string): string {
  return join(dataDir, 'operator-key')
}

interface KeptSecret<Value> {
  make: () => string
  /** As a setting's: the message of what it throws completes "… must". */
  parse: (text: string) => Value
  remedy: string
}

function kept<Value>(path: string, { make, parse, remedy }: KeptSecret<Value>): Value {
  if (!existsSync(path)) keep(path, make())
  chmodSync(path, 0o600)
  try {
    return parse(readFileSync(path, 'utf8').trim())
  } catch (cause) {
    throw new StartError(`${path} must ${messageOf(cause)}. ${remedy}`, { cause })
  }
}

/**
 * Keeps `secret`, unless there is one by now. The file appears with all that belongs in it: no crash, and no full disk,
 * leaves a part of it, and of processes that start at once all have the same.
 */
function keep(path: string, secret: string): void {
  const draft = `${path}.${randomUUID()}`
  try {
    writeFileSync(draft, `${secret}\n`, { mode: 0o600, flag: 'wx', flush: true })
    linkSync(draft, path)
  } catch (cause) {
    if (!existsSync(path)) throw new StartError(`${path} cannot be written: ${messageOf(cause)}.`, { cause })
  } finally {
    rmSync(draft, { force: true })
  }
  const folder = openSync(dirname(path), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
