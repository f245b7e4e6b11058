import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseAllDocuments } from 'yaml'
import type { z } from 'zod'
import { type Setting, settings } from '../../src/config.ts'

/** Files of the repository that tell a machine how to run the server. Paths are below the root. */
export function readText(path: string): string {
  return readFileSync(resolve(import.meta.dirname, '../..', path), 'utf8')
}

/** The documents of a YAML file. Throws on what is no YAML. */
export function readDocuments(path: string): unknown[] {
  return parseAllDocuments(readText(path), { merge: true }).map((document) => {
    const [error] = document.errors
    if (error !== undefined) throw new Error(`${path}: ${error.message}`)
    return document.toJS()
  })
}

/** The one document of a YAML file, as `schema` reads it. */
export function readDocument<Schema extends z.ZodType>(path: string, schema: Schema): z.infer<Schema> {
  return schema.parse(readDocuments(path)[0])
}

/** The names of all settings. */
export const settingVariables: ReadonlySet<string> = new Set(
  Object.values(settings).map(({ variable }: Setting) => variable),
)

/** The `ENV` of the Dockerfile. */
export function imageEnvironment(): Record<string, string> {
  const [, block = ''] = /^ENV ((?:.*\\\n)*.*)$/m.exec(readText('Dockerfile')) ?? []
  return Object.fromEntries([...block.matchAll(/(\w+)=(\S+)/g)].map(([, name, value]) => [name, value]))
}

/** The port of a listen address, `host:port`. */
export function portOf(address: string | undefined): number {
  return Number(address?.split(':').at(-1))
}
