import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { test } from 'node:test'

/** The rules of docs/architecture.md that a reader relies on, read off the sources. */
const root = resolve(import.meta.dirname, '..')

interface SourceFile {
  path: string
  text: string
  /** What it imports: paths below the root for its own modules, package names for others. */
  imports: string[]
}

const sources = sourceFiles('src')

test('the three planes never import one another', () => {
  const planes = ['src/inference/', 'src/management/', 'src/delivery/']
  for (const plane of planes) {
    const others = planes.filter((other) => other !== plane)
    assertNoImport(
      (path) => path.startsWith(plane),
      (imported) => others.some((other) => imported.startsWith(other)),
    )
  }
})

test('the inference plane does not import storage: a request needs no database', () => {
  assertNoImport(
    (path) => path.startsWith('src/inference/'),
    (imported) => imported.startsWith('src/storage/') || imported === 'kysely' || imported === 'node:sqlite',
  )
})

test('lower layers do not import the planes above them', () => {
  const lower =
    /^src\/(directory|access|limits|ledger|storage|http1|inbound|outbound|errors|clock|log|metrics|providers|id)\b/
  const planes = /^src\/(inference|management|delivery|cli|serve|main)\b/
  assertNoImport(
    (path) => lower.test(path),
    (imported) => planes.test(imported),
  )
})

test('limits are judged without a database, a socket or a log', () => {
  assertNoImport(
    (path) => /^src\/limits\/(effective-limits|buckets|rolling-window|generations|day-table)\.ts$/.test(path),
    (imported) => !imported.startsWith('src/limits/') && imported !== 'src/clock.ts',
  )
})

test('only config.ts reads the environment, and nothing ends the process by force', () => {
  assertNoText(/\bprocess\.env\b/, (path) => path === 'src/config.ts')
  assertNoText(/\bprocess\.exit\(/)
})

test('only clock.ts reads the clock or starts a timer', () => {
  // A socket's own time-out is none of them: it is the system's word that nothing came.
  const timing = /\bDate\.now\(|\bperformance\.now\(|(?<!socket\.)\bset(Timeout|Interval)\(/
  assertNoText(timing, (path) => path === 'src/clock.ts')
})

test('only the management listener and the demo model run node:http, and only outbound.ts imports undici', () => {
  const mayRun = /\/(management\/listener|demo-model|response-head)\.ts$/
  assertNoText(/^import (?!type )[^;]*? from 'node:https?'/m, (path) => mayRun.test(path))
  assertNoImport(
    (path) => path !== 'src/outbound.ts',
    (imported) => imported === 'undici',
  )
})

test('no file is a barrel, has a default export or silences a check', () => {
  assertNoText(/^export (\*|\{[^}]*\}) from /m)
  assertNoText(/^export default /m)
  assertNoText(/biome-ignore|@ts-(ignore|expect-error|nocheck)/)
})

test('a provider has its name in the provider table and nowhere else in the server', () => {
  const isClient = (path: string) => path.startsWith('src/cli/')
  assertNoText(
    /'(ANTHROPIC|BASETEN|VERTEX|SELF_HOSTED|OPENAI_COMPATIBLE)'/,
    (path) => path === 'src/providers.ts' || isClient(path),
  )
})

test('management resources do not import one another, except keys and users their groups', () => {
  const resources = sources.filter(
    ({ path, text }) => path.startsWith('src/management/') && /^export function \w+Routes\(/m.test(text),
  )
  const paths = new Set(resources.map(({ path }) => path))
  const offences = resources.flatMap(({ path, imports }) =>
    imports
      .filter((imported) => paths.has(imported) && imported !== 'src/management/groups.ts')
      .map((imported) => `${path} imports ${imported}`),
  )
  assert.deepEqual(offences, [])
})

function assertNoImport(from: (path: string) => boolean, forbidden: (imported: string) => boolean): void {
  const offences = sources
    .filter(({ path }) => from(path))
    .flatMap(({ path, imports }) => imports.filter(forbidden).map((imported) => `${path} imports ${imported}`))
  assert.deepEqual(offences, [])
}

function assertNoText(pattern: RegExp, allowed: (path: string) => boolean = () => false): void {
  const offences = sources.filter(({ path, text }) => !allowed(path) && pattern.test(text)).map(({ path }) => path)
  assert.deepEqual(offences, [], `these files match ${pattern}`)
}

function sourceFiles(folder: string): SourceFile[] {
  return readdirSync(resolve(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const path = `${folder}/${name}`
      const text = readFileSync(resolve(root, path), 'utf8')
      const specifiers = [...text.matchAll(/(?:from|import\()\s*'([^']+)'/g)].map((match) => match[1] ?? '')
      const imports = specifiers.map((specifier) =>
        specifier.startsWith('.') ? relative(root, resolve(root, dirname(path), specifier)) : specifier,
      )
      return { path, text, imports }
    })
}
