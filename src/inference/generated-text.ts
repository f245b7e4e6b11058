/**
 * What the model wrote, out of an answer or an event of a stream: text, reasoning, refusals and the arguments of
 * tool calls. Shapes that are not known hold no text; nothing here throws.
 */

/** Chat and text completions: of `choices`, each one's `delta`, `message` or `text`. */
export function chatText(data: unknown): string {
  return items(member(data, 'choices'))
    .map((choice) => {
      const message = member(choice, 'delta') ?? member(choice, 'message')
      // Some servers send the reasoning twice, under its old name and its new one.
      const reasoning = text(member(message, 'reasoning_content')) || text(member(message, 'reasoning'))
      const calls = items(member(message, 'tool_calls')).map((call) => callText(member(call, 'function')))
      const written = text(member(message, 'content')) + text(member(message, 'refusal'))
      return text(member(choice, 'text')) + reasoning + written + calls.join('')
    })
    .join('')
}

/** Messages: a block that starts, the delta of one, or all blocks of `content`. */
export function messagesText(data: unknown): string {
  const blocks = [member(data, 'content_block'), member(data, 'delta'), ...items(member(data, 'content'))]
  return blocks
    .map((block) => {
      const input = member(block, 'input')
      const call = text(member(block, 'name')) + text(member(block, 'partial_json'))
      return text(member(block, 'text')) + text(member(block, 'thinking')) + call + nonEmptyJson(input)
    })
    .join('')
}

/** Responses: an event's `delta`, the name of a function that an event announces, or all items of `output`. */
export function responsesText(data: unknown): string {
  const announced = text(member(member(data, 'item'), 'name'))
  const started = member(data, 'type') === 'response.output_item.added' ? announced : ''
  const output = items(member(data, 'output')).map((item) => {
    const parts = [...items(member(item, 'content')), ...items(member(item, 'summary'))]
    return callText(item) + parts.map((part) => text(member(part, 'text')) + text(member(part, 'refusal'))).join('')
  })
  return started + text(member(data, 'delta')) + output.join('')
}

const writtenStrings =
  /"(?:content|text|refusal|reasoning_content|reasoning|thinking|name|arguments)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)/g

/** Of the beginning of an answer's JSON, for one that broke off: the strings that a model writes, as they are escaped. */
export function textOfBeginning(json: string): string {
  return [...json.matchAll(writtenStrings)].map(([, written]) => written).join('')
}

function callText(call: unknown): string {
  return text(member(call, 'name')) + text(member(call, 'arguments'))
}

/** Tool input in one piece; a block that starts a stream of it says `{}`. */
function nonEmptyJson(input: unknown): string {
  return typeof input === 'object' && input !== null && Object.keys(input).length > 0 ? JSON.stringify(input) : ''
}

/** A string, or the texts of a list of parts. */
function text(value: unknown): string {
  if (typeof value === 'string') return value
  return items(value)
    .map((part) => text(member(part, 'text')))
    .join('')
}

function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
