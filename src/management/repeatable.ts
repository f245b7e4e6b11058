import { z } from 'zod'

/** A query parameter that may be given more than once: `?sources=UI&sources=API`. */
export function repeatable<Item extends z.ZodType>(item: Item) {
  return z.preprocess((given) => (typeof given === 'string' ? [given] : given), z.array(item).max(200))
}
