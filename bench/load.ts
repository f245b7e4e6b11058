import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The compiled programs of the bench, made anew at each start. */
export interface Programs {
  upstream: string
  load: string
}

export async function compile(folder: string): Promise<Programs> {
  mkdirSync(folder, { recursive: true })
  const programs = { upstream: join(folder, 'upstream'), load: join(folder, 'load') }
  for (const [name, program] of Object.entries(programs)) {
    await run('gcc', ['-O2', '-Wall', '-Wextra', '-o', program, join(import.meta.dirname, `${name}.c`)])
  }
  return programs
}

export interface LoadOptions {
  port: number
  path: string
  body: string
  /** A set of headers for each key; requests take them in turn. */
  headers: readonly Record<string, string>[]
  connections: number
  /** Requests a second; null: each connection sends its next request as soon as it has its answer. */
  rate: number | null
  seconds: number
  /** What every answer must have: its status, and how its body closes. */
  status: number
  end: string
}

export interface LoadResult {
  answered: number
  answeredOtherwise: number
  unanswered: number
  /** In which requests arrived; the last answers come later. */
  seconds: number
  requestUs: Percentiles
  /** How long the chunks of paced and slow streams were under way from upstream's write to the client's read. */
  chunkUs: Percentiles
}

export interface Percentiles {
  p50: number
  p99: number
}

/** A limit of one request a minute that refuses all others admits one a minute. */
const otherwiseMax = 2

/** Calls with the load generator. Throws when an answer is missing or not as expected. */
export async function load(
  { port, path, body, headers, connections, rate, seconds, status, end }: LoadOptions,
  { program, folder }: { program: string; folder: string },
): Promise<LoadResult> {
  const bodyFile = join(folder, 'body.json')
  const headersFile = join(folder, 'headers.txt')
  writeFileSync(bodyFile, body)
  writeFileSync(headersFile, headers.map(headersLine).join('\n'))
  const given = [port, path, bodyFile, headersFile, connections, rate ?? 0, seconds, status, end].map(String)
  const { stdout } = await run(program, given)
  const result: LoadResult = JSON.parse(stdout)
  if (result.unanswered > 0 || result.answeredOtherwise > otherwiseMax) {
    throw new Error(`Port ${port}${path} did not answer every request with ${status}: ${stdout}`)
  }
  return result
}

function headersLine(headers: Record<string, string>): string {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join('\t')
}
