import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { processEnvironment } from '../config.ts'
import { CommandFailure } from './command-failure.ts'

const Profile = z.object({ url: z.string(), api_key: z.string() })

/** Where commands call, and as whom. */
export type Profile = z.output<typeof Profile>

/** Keeps the profile where only its owner can read it. */
export function writeProfile(profile: Profile): string {
  const path = profilePath()
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  rmSync(path, { force: true })
  writeFileSync(path, `${JSON.stringify(profile, null, 2)}\n`, { mode: 0o600 })
  return path
}

/** Throws where nobody has logged in, or what is kept cannot be read. */
export function readProfile(): Profile {
  const path = profilePath()
  try {
    return Profile.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (cause) {
    throw new CommandFailure('failure', `There is no profile at ${path}; run \`tollgate login\`.`, { cause })
  }
}

export function removeProfile(): void {
  rmSync(profilePath(), { force: true })
}

function profilePath(): string {
  const { XDG_CONFIG_HOME, HOME } = processEnvironment()
  return join(XDG_CONFIG_HOME || join(HOME || homedir(), '.config'), 'tollgate', 'config.json')
}
