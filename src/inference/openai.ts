import type { Refusal } from './refusal.ts'

/** An error as OpenAI's API writes it: what every OpenAI SDK reads its exceptions from (contract §11). */
export function renderOpenAiError({ type, code, message, param, limit }: Refusal): object {
  return { error: { message, type, code, param: param ?? null, ...(limit === undefined ? {} : { limit }) } }
}

/** `GET /v1/models`: the slugs that a key may call. */
export function renderModelList(slugs: readonly string[]): object {
  return {
    object: 'list',
    data: slugs.map((slug) => ({ id: slug, object: 'model', created: 0, owned_by: slug.slice(0, slug.indexOf('/')) })),
  }
}

/** An error within a stream of chat or text completions. */
export function openAiErrorFrame(refusal: Refusal): Buffer {
  return Buffer.from(`data: ${JSON.stringify(renderOpenAiError(refusal))}\n\n`)
}

/** An error within a stream of the Responses API. */
export function openAiResponsesErrorFrame({ code, message, param }: Refusal): Buffer {
  const event = { type: 'error', code, message, param: param ?? null }
  return Buffer.from(`event: error\ndata: ${JSON.stringify(event)}\n\n`)
}
