import { z } from 'zod'

/** A list in which no two items may be the same by `by`; the second of two is the one at fault. */
export function distinct<Item extends z.ZodType>(
  item: Item,
  { by, message }: { by: (item: z.output<Item>) => string; message: (identity: string) => string },
): z.ZodArray<Item> {
  return z.array(item).check(({ value, issues }) => {
    const seen = new Set<string>()
    for (const [index, one] of value.entries()) {
      const identity = by(one)
      if (seen.has(identity)) issues.push({ code: 'custom', input: one, path: [index], message: message(identity) })
      seen.add(identity)
    }
  })
}
