import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mintKey } from './access/api-key.ts'
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
  return kept(operatorKeyPath(dataDir), () => mintKey('op_').key)
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
  return Buffer.from(
    kept(masterKeyPath(dataDir), () => randomBytes(32).toString('base64')),
    'base64',
  )
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

function kept(path: string, make: () => string): string {
  if (!existsSync(path)) writeFileSync(path, `${make()}\n`, { mode: 0o600, flag: 'wx', flush: true })
  chmodSync(path, 0o600)
  return readFileSync(path, 'utf8').trim()
}
