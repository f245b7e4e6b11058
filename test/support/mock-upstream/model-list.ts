import type { Model } from 'openai/resources/models'
import type { Api } from './api.ts'
import { askedNothing } from './asked.ts'

/** GET /v1/models; a client that sends `anthropic-version` gets Anthropic's form of the list. */
export const modelList: Api = {
  errorShape: 'openai',
  fault: () => null,
  read: () => askedNothing,
  answer: ({ request }) =>
    request.headers['anthropic-version'] === undefined ? openaiList(modelNames) : anthropicList(modelNames),
  stream: null,
}

const modelNames = ['mock-model-large', 'mock-model-small']

function openaiList(names: readonly string[]): { object: 'list'; data: Model[] } {
  return {
    object: 'list',
    data: names.map((id) => ({ id, object: 'model', created: 1_768_478_400, owned_by: 'mock' })),
  }
}

function anthropicList(names: readonly string[]): object {
  return {
    data: names.map((id) => ({ type: 'model', id, display_name: id, created_at: '2026-01-15T12:00:00Z' })),
    has_more: false,
    first_id: names.at(0) ?? null,
    last_id: names.at(-1) ?? null,
  }
}
