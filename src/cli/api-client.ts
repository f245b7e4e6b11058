import { z } from 'zod'
import { CommandFailure, type FailureKind } from './command-failure.ts'
import type { Profile } from './profile.ts'

const answerMs = 30_000

const ErrorAnswer = z.object({
  message: z.string(),
  details: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
})

/** One call of the management API. Throws `CommandFailure` with what the server said. */
export async function callApi<Answer extends z.ZodType>(
  { url, api_key }: Profile,
  { method, path, body, answer }: { method: string; path: string; body?: object; answer: Answer },
): Promise<z.output<Answer>> {
  const response = await fetch(new URL(path, url), {
    method,
    headers: {
      authorization: `Api-Key ${api_key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined ? null : JSON.stringify(body),
    signal: AbortSignal.timeout(answerMs),
  }).catch((cause: unknown) => {
    throw new CommandFailure('failure', `${url} cannot be reached.`, { cause })
  })
  const received: unknown = await response.json().catch(() => null)
  if (response.ok) return answer.parse(received)
  throw new CommandFailure(kindOf(response.status), sentence(received) ?? `${url} answered ${response.status}.`)
}

function kindOf(status: number): FailureKind {
  if (status >= 500) return 'server'
  return kinds[status] ?? 'failure'
}

const kinds: Record<number, FailureKind> = {
  400: 'invalid',
  401: 'not-allowed',
  403: 'not-allowed',
  404: 'not-found',
  409: 'invalid',
}

function sentence(received: unknown): string | null {
  const error = ErrorAnswer.safeParse(received)
  if (!error.success) return null
  const { message, details = [] } = error.data
  return [message, ...details.map((detail) => `  ${detail.path}: ${detail.message}`)].join('\n')
}
