/**
 * What the model wrote, out of an answer or an event of a stream, in case that upstream does not count it.
 *
 * APIs grow: a function call became tool calls, then custom tools, audio and images. So nothing is looked for by name:
 * all strings in the part of an answer that is the model's are its work, except for those that are known to be
 * something else. What came in a form that nobody has thought of is counted roughly, and not forgotten. Nothing
 * here throws.
 */

/** Chat and text completions: of `choices`, each one's `delta` or `message`, and `text`. */
export function chatText(data: unknown): string {
  return items(member(data, 'choices'))
    .map((choice) => {
      const message = member(choice, 'delta') ?? member(choice, 'message')
      const reasoning = reasoningNames.map((name) => written(member(message, name))).find((text) => text !== '')
      return written(member(choice, 'text')) + (reasoning ?? '') + written(message)
    })
    .join('')
}

/** Messages: a block that starts, the delta of one, or all blocks of `content`. */
export function messagesText(data: unknown): string {
  return ['content_block', 'delta', 'content'].map((name) => written(member(data, name))).join('')
}

/** Responses: what an event brings, or all items of `output`. Events that say again what others brought have no part. */
export function responsesText(data: unknown): string {
  const isNew = member(data, 'type') === 'response.output_item.added'
  const started = isNew ? written(member(member(data, 'item'), 'name')) : ''
  return started + ['delta', 'partial_image_b64', 'output'].map((name) => written(member(data, name))).join('')
}

const writtenStrings =
  /"(?:content|text|refusal|reasoning_content|reasoning|thinking|name|arguments|input|transcript|code)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)/g

/** Of the beginning of an answer's JSON, for one that broke off: the strings that a model writes, as they are escaped. */
export function textOfBeginning(json: string): string {
  return [...json.matchAll(writtenStrings)].map(([, text]) => text).join('')
}

/** Some servers send the reasoning twice or three times, under its old names and its new one. */
const reasoningNames = ['reasoning_content', 'reasoning', 'reasoning_details']

/** Members that hold nothing the model wrote, or what is counted elsewhere. */
const passedOver = new Set([
  ...['id', 'type', 'object', 'role', 'status', 'call_id', 'item_id', 'format', 'signature', 'annotations', 'logprobs'],
  ...['stop_reason', 'stop_sequence'],
  ...reasoningNames,
])

/** All strings in `value`, one after the other. */
function written(value: unknown): string {
  if (typeof value === 'string') return isBinary(value) ? value.slice(0, binaryCharacters) : value
  if (typeof value !== 'object' || value === null) return ''
  return Object.entries(value)
    .map(([name, part]) => (passedOver.has(name) ? '' : name === 'input' ? toolInput(part) : written(part)))
    .join('')
}

/** JSON that the model wrote and upstream has parsed; a block that starts a stream of it says `{}`. */
function toolInput(value: unknown): string {
  const isParsed = typeof value === 'object' && value !== null && Object.keys(value).length > 0
  return isParsed ? JSON.stringify(value) : written(value)
}

/** An image or a sound has no tokens that could be counted from its bytes: it counts as a little text. */
const binaryCharacters = 64

function isBinary(text: string): boolean {
  return text.length > 1_000 && /^[\w+/=-]+$/.test(text)
}

function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
