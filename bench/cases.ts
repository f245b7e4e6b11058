/** A kind of request that the gateways are measured with. */
export interface Case {
  title: string
  /** How the mock upstream answers it: the first segment of its path. */
  upstream: 'json' | 'chunks' | 'paced' | 'slow'
  body: object
  /** How the body of an answer closes; one that does not was cut. */
  end: string
  connections: number
  /** Requests a second; null: each connection sends its next request as soon as it has its answer. */
  rate: number | null
}

export const cpuCaseNames = ['json', 'chunks', 'paced', 'prompt', 'refused'] as const
export type CpuCaseName = (typeof cpuCaseNames)[number]
export type CaseName = CpuCaseName | 'slow'

const message = { role: 'user', content: 'Say hello to everybody who waits for this benchmark to end.' }
const json = { messages: [message], max_tokens: 100 }
const stream = { ...json, stream: true }

export const cases: Record<CaseName, Case> = {
  json: {
    title: 'small JSON',
    upstream: 'json',
    body: json,
    end: '}',
    connections: 64,
    rate: null,
  },
  chunks: {
    title: 'stream of 50 chunks, all at once',
    upstream: 'chunks',
    body: stream,
    end: 'data: [DONE]',
    connections: 64,
    rate: null,
  },
  // A stream takes 0.49 s, so that about 128 are open at any time, begun at different moments.
  paced: {
    title: '128 streams of 50 chunks, one every 10 ms',
    upstream: 'paced',
    body: stream,
    end: 'data: [DONE]',
    connections: 1_024,
    rate: 261,
  },
  prompt: {
    title: '200 kB prompt',
    upstream: 'json',
    body: { messages: longConversation(200_000), max_tokens: 100 },
    end: '}',
    connections: 16,
    rate: null,
  },
  refused: {
    title: 'refused (429)',
    upstream: 'json',
    body: json,
    end: '}',
    connections: 64,
    rate: null,
  },
  slow: {
    title: '1,000 streams, a chunk a second',
    upstream: 'slow',
    body: stream,
    end: 'data: [DONE]',
    connections: 1_000,
    rate: 500,
  },
}

export const caseNames: readonly CaseName[] = [...cpuCaseNames, 'slow']

/** The slug by which Tollgate knows the case; the other gateways pass it on unread. */
export function slugOf(name: CaseName): string {
  return `bench/${name}`
}

export function bodyOf(name: CaseName): string {
  return JSON.stringify({ model: slugOf(name), ...cases[name].body })
}

/** Messages of about 2 kB of prose with line breaks and quotes, as prompts have them. */
function longConversation(bytes: number): (typeof message)[] {
  const sentence = 'The gateway said: "Every request is counted once", and went on to count the next one.\n'
  const content = sentence.repeat(22)
  return Array.from({ length: Math.ceil(bytes / JSON.stringify(content).length) }, (_value, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content,
  }))
}
