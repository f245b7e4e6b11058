import { z } from 'zod'
import { eventLoopTurn } from '../ledger/event-loop-turn.ts'

/** To check and write down so much of an answer takes a millisecond. */
const lengthPerTurn = 64 * 1024

/**
 * Writes down the pages of a list, `{items, …}`, as `response` declares them; null where answers are no such pages. A page
 * of 1,000 groups with 20 models each takes 200 ms: customers are served in between. Rejects with a `ZodError` where a page
 * is not as declared.
 */
export function pageWriter(response: z.ZodType): ((answer: unknown) => Promise<string>) | null {
  if (!(response instanceof z.ZodObject) || !(response.shape['items'] instanceof z.ZodArray)) return null
  const { element } = response.shape['items']
  const others = response.omit({ items: true })
  return async (answer) => {
    const { items, ...rest } = Page.parse(answer)
    const turns: string[] = []
    let text = '{"items":['
    for (const [index, item] of items.entries()) {
      if (text.length > lengthPerTurn) {
        turns.push(text)
        text = ''
        await eventLoopTurn()
      }
      text += `${index === 0 ? '' : ','}${JSON.stringify(z.encode(element, item))}`
    }
    return `${turns.join('')}${text}],${JSON.stringify(z.encode(others, rest)).slice(1)}`
  }
}

const Page = z.looseObject({ items: z.array(z.unknown()) })
