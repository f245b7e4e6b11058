import fc from 'fast-check'

/** One frame of an event stream as text; wherever it names the model, it says `MODEL`. */
export type FrameText = string

const lineEnds = ['\n', '\r\n', '\r']

/** A frame with the given fields, in any line ends. */
export function frameOf(fields: fc.Arbitrary<readonly string[]>): fc.Arbitrary<FrameText> {
  return fc.tuple(fields, fc.constantFrom(...lineEnds)).map(([lines, lineEnd]) => [...lines, '', ''].join(lineEnd))
}

/** Any frame of a completions stream but its last: chunks, comments, other fields, data that are no JSON. */
export function chatFrame(): fc.Arbitrary<FrameText> {
  const delta = fc.record({ content: trickyText() })
  const choice = fc.record({ index: fc.nat(), delta, model: trickyText(), usage: fc.constant({ prompt_tokens: 1 }) })
  const chunk = objectOf({
    id: fc.constantFrom('chatcmpl-1', 'chatcmpl-2'),
    model: fc.constant('MODEL'),
    choices: fc.array(choice, { maxLength: 2 }),
    usage: fc.constantFrom(null, { prompt_tokens: 3, completion_tokens: 4 }),
    system_fingerprint: trickyText(),
  })
  const oddlyCut = fc.constantFrom(['data', 'data:  {"model":MODEL}'], ['data: {"model":', 'data: MODEL}', 'data:'])
  return fc.oneof(
    { weight: 5, arbitrary: frameOf(dataLines(chunk)) },
    { weight: 1, arbitrary: frameOf(oddlyCut) },
    { weight: 1, arbitrary: otherFrame() },
  )
}

/** Any frame of a messages stream but its last. */
export function messagesFrame(): fc.Arbitrary<FrameText> {
  const usage = fc.constant({ input_tokens: 5, output_tokens: 1 })
  const start = objectOf({
    type: fc.constant('message_start'),
    message: fc.record({ id: trickyText(), model: fc.constant('MODEL'), usage }),
  })
  const delta = objectOf({
    type: fc.constantFrom('content_block_delta', 'ping'),
    delta: fc.record({ text: trickyText() }),
    model: fc.constant('not the model'),
  })
  return fc.oneof(
    { weight: 1, arbitrary: frameOf(typedLines('message_start', start)) },
    { weight: 4, arbitrary: frameOf(typedLines('content_block_delta', delta)) },
    { weight: 1, arbitrary: otherFrame() },
  )
}

/** Any frame of a responses stream but its last. */
export function responsesFrame(): fc.Arbitrary<FrameText> {
  const created = objectOf({
    type: fc.constantFrom('response.created', 'response.in_progress'),
    response: fc.record({ id: trickyText(), model: fc.constant('MODEL'), usage: fc.constant(null) }),
  })
  const delta = objectOf({ type: fc.constant('response.output_text.delta'), delta: trickyText() })
  return fc.oneof(
    { weight: 1, arbitrary: frameOf(typedLines('response.created', created)) },
    { weight: 4, arbitrary: frameOf(typedLines('response.output_text.delta', delta)) },
    { weight: 1, arbitrary: otherFrame() },
  )
}

/** Text that looks like what a tap looks for. */
function trickyText(): fc.Arbitrary<string> {
  const tricky = [
    '"model":"x"',
    '[DONE]',
    '"usage":{',
    '"error"',
    'event: error',
    'message_stop',
    '\n\ndata: ',
    '\\"',
    '漢',
  ]
  return fc
    .array(fc.oneof(fc.constantFrom(...tricky), fc.string({ maxLength: 5 })), { maxLength: 3 })
    .map((parts) => parts.join(''))
}

/** Some of the members, in any order. */
function objectOf(members: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<object> {
  return fc
    .record(members, { requiredKeys: ['type', 'message', 'response'].filter((name) => name in members) })
    .chain((object) => fc.shuffledSubarray(Object.entries(object), { minLength: Object.keys(object).length }))
    .map((entries) => Object.fromEntries(entries))
}

/** An object as one `data` line or, pretty-printed, as several, with or without the space after the colon. */
function dataLines(object: fc.Arbitrary<object>): fc.Arbitrary<string[]> {
  return fc
    .tuple(object, fc.constantFrom(0, 0, 0, 2), fc.constantFrom('data: ', 'data:'))
    .map(([value, indent, field]) =>
      json(value, indent)
        .split('\n')
        .map((line) => field + line),
    )
}

function typedLines(type: string, object: fc.Arbitrary<object>): fc.Arbitrary<string[]> {
  return fc
    .tuple(dataLines(object), fc.boolean())
    .map(([lines, typed]) => (typed ? [`event: ${type}`, ...lines] : lines))
}

function json(value: object, indent: number): string {
  return JSON.stringify(value, null, indent).replaceAll('"MODEL"', 'MODEL')
}

function otherFrame(): fc.Arbitrary<FrameText> {
  const others = [
    [': ping'],
    [':'],
    ['id: 7', 'retry: 10'],
    ['data: hello'],
    ['data'],
    ['data: {"model":'],
    ['data: {"model":7}'],
  ]
  return frameOf(
    fc.constantFrom(...others, ['data: [1,{"model":"x"}]'], ['data-{"model":"x"}'], ['data: null', 'id: 1']),
  )
}
