import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { chatDialect, type Dialect, messagesDialect, responsesDialect } from '../../src/inference/dialects.ts'
import { EventFrameTooLarge, EventStreamTap, type EventStreamTapOptions } from '../../src/inference/sse.ts'
import { chunked, cuts } from '../support/chunks.ts'
import { chatFrame, type FrameText, messagesFrame, responsesFrame } from '../support/event-frames.ts'

interface Kind {
  dialect: Dialect
  frame: fc.Arbitrary<FrameText>
  last: FrameText
}

const kinds: Record<string, Kind> = {
  completions: { dialect: chatDialect, frame: chatFrame(), last: 'data: [DONE]\n\n' },
  messages: {
    dialect: messagesDialect,
    frame: messagesFrame(),
    last: 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
  },
  responses: {
    dialect: responsesDialect,
    frame: responsesFrame(),
    last: 'data: {"type":"response.completed","response":{"model":MODEL,"output":[]}}\r\n\r\n',
  },
}

for (const [name, { dialect, frame, last }] of Object.entries(kinds)) {
  describe(`a stream of ${name}`, () => {
    const frames = fc.array(frame, { maxLength: 8 })

    test(`of ${name} passes as it came but for the model, however it is cut`, () => {
      fc.assert(
        fc.property(frames, frames, fc.constantFrom('', '\uFEFF'), cuts(), (before, after, mark, fractions) => {
          const stream = mark + [...before, last, ...after].join('')
          const { send, final } = passThrough(fromUpstream(stream), { dialect, fractions })
          assert.equal(send + final, forClient(stream))
        }),
        { numRuns: 3_000 },
      )
    })

    test(`of ${name} has its last frame and what follows held back, and nothing before`, () => {
      fc.assert(
        fc.property(frames, frames, cuts(), (before, after, fractions) => {
          const { send, tap } = passThrough(fromUpstream([...before, last, ...after].join('')), { dialect, fractions })
          assert.equal(send, forClient(before.join('')))
          assert.equal(tap.complete, true)
        }),
        { numRuns: 1_000 },
      )
    })

    test(`of ${name} lets each frame go with the byte that completes it`, () => {
      fc.assert(
        fc.property(frames, (stream) => {
          const tap = tapOf({ dialect })
          for (const one of stream) {
            const sent = chunked(fromUpstream(one), []).flatMap((byte) => tap.push(byte).send ?? [])
            assert.equal(Buffer.concat(sent).toString(), forClient(one))
          }
        }),
        { numRuns: 500 },
      )
    })
  })
}

describe('what leaves', () => {
  test('is the very buffer that came when nothing in it changes', () => {
    const chunk = Buffer.from('data: {"model":"lab/model","choices":[]}\n\ndata: {"choices":[]}\n\n')
    assert.equal(tapOf({}).push(chunk).send, chunk)
    assert.equal(tapOf({ model: null }).push(chunk).send, chunk)
  })

  test('has the model renamed in a frame that begins unlike the one before', () => {
    const frame = (id: number, model: string) => `data: {"id":${id},"model":"${model}"}\n\n`
    const upstream = [
      frame(1, 'a'),
      frame(2, 'a'),
      frame(2, 'a'),
      frame(2, 'longer'),
      frame(2, 'longer'),
      frame(3, 'a'),
    ]
    const client = [1, 2, 2, 2, 2, 3].map((id) => frame(id, 'lab/model')).join('')
    for (const fractions of [[], [0.5], [0]]) {
      assert.equal(passThrough(Buffer.from(upstream.join('')), { fractions }).send, client)
    }
  })

  test('ends before the first of several last frames', () => {
    const { send, final } = passThrough(Buffer.from(': a\n\ndata: [DONE]\n\n: b\n\ndata: [DONE]\n\n'), {
      fractions: [0],
    })
    assert.deepEqual([send, final], [': a\n\n', 'data: [DONE]\n\n: b\n\ndata: [DONE]\n\n'])
  })

  test('lacks the chunk with the usage and no choice, if the client did not ask for it', () => {
    const usage = 'data: {"model":MODEL,"choices":[ ],"usage":{"prompt_tokens":3}}\n\n'
    const kept = [
      'data: {"choices":[],"usage":null}\n\n',
      'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":3}}\n\n',
    ]
    const stream = [kept[0], usage, kept[1], usage].join('')
    for (const fractions of [[0.5], []]) {
      const dropping = passThrough(fromUpstream(stream), { dropUsageChunk: true, fractions })
      assert.equal(dropping.send, kept.join(''))
      assert.deepEqual(dropping.tap.usage(), { prompt_tokens: 3 })
      assert.equal(passThrough(fromUpstream(stream), { dropUsageChunk: false, fractions }).send, forClient(stream))
    }
  })

  test('includes a last frame that only lacks its blank line, and never a part of a frame', () => {
    const finished = 'data: {"choices":[{"finish_reason":"stop"}]}\n\n'
    for (const rest of ['data: [DONE]', 'data: [DONE]\n']) {
      const { send, final, tap } = passThrough(Buffer.from(finished + rest), {})
      assert.deepEqual([send, final, tap.complete], [finished, rest, true])
    }
    for (const rest of ['data: {"choices":[{"ind', 'data: [DON', 'data: {"model":"up/str']) {
      const { send, final, tap } = passThrough(Buffer.from(finished + rest), {})
      assert.deepEqual([send, final, tap.complete], [finished, '', false])
    }
  })
})

describe('what is read along the way', () => {
  test('a stream without a last frame is complete if a choice has finished and it ended between two frames', () => {
    const finished = 'data: {"choices":[{"finish_reason":"stop"}]}\n\n'
    assert.equal(passThrough(Buffer.from(finished), {}).tap.complete, true)
    assert.equal(passThrough(Buffer.from('data: {"choices":[{"finish_reason":null}]}\n\n'), {}).tap.complete, false)
    const open = tapOf({})
    open.push(Buffer.from(finished))
    assert.equal(open.complete, false)
  })

  test('usage is the last one reported at the top of an event, and none is none', () => {
    const none = 'data: {"usage":null,"choices":[{"usage":{"prompt_tokens":9},"text":"\\"usage\\":{"}]}\n\n'
    assert.equal(passThrough(Buffer.from(none), {}).tap.usage(), null)
    const counts = [1, 2, 0].map((tokens) => `data: {"usage": {"completion_tokens":${tokens}}}\n\n`)
    assert.deepEqual(passThrough(Buffer.from(none + counts.join('') + none), {}).tap.usage(), { completion_tokens: 0 })
  })

  test('usage is outrun by events that follow it, and not by comments, an error or the end', () => {
    const usage = 'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    const more = 'id: 1\ndata: {"choices":[{"delta":{"content":"b"}}],"usage":null}\n\n'
    const none = ': ping\n\ndata: {"error":{"message":"oops"}}\n\n: ping\n\ndata: [DONE]\n\n'
    const start = 'data: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    const text = 'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n'
    const delta = 'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n'
    const cases: [Dialect, string, boolean][] = [
      [chatDialect, usage, false],
      [chatDialect, usage + none, false],
      [chatDialect, usage + more, true],
      [chatDialect, usage + more + none, true],
      [chatDialect, usage + more + usage, false],
      [messagesDialect, start + text, true],
      [messagesDialect, start + text + delta, false],
    ]
    for (const fractions of [[], [0.3, 0.6], [1]]) {
      for (const [dialect, stream, isOutrun] of cases) {
        for (const model of [null, 'lab/model']) {
          const { tap } = passThrough(Buffer.from(stream), { dialect, model, fractions })
          assert.equal(tap.isUsageOutrun, isOutrun, stream)
        }
      }
    }
  })

  test("the counts of a messages stream are its start's, overtaken by its end's", () => {
    const start = 'data: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    const delta = 'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n'
    const { tap } = passThrough(Buffer.from(start + delta), { dialect: messagesDialect })
    assert.deepEqual(tap.usage(), { input_tokens: 25, output_tokens: 15 })
  })

  test('the counts of a responses stream are those of the response that ends it', () => {
    const created = 'data: {"type":"response.created","response":{"usage":null}}\n\n'
    const ended = 'data: {"type":"response.incomplete","response":{"usage":{"input_tokens":2,"output_tokens":3}}}\n\n'
    const { tap, final } = passThrough(Buffer.from(created + ended), { dialect: responsesDialect })
    assert.deepEqual(tap.usage(), { input_tokens: 2, output_tokens: 3 })
    assert.equal(final, ended)
  })

  test('an error in the stream is seen in each form that servers give it', () => {
    const errors: [Dialect, string, string][] = [
      [chatDialect, 'data: {"error":{"message":"oops"}}\n\n', '{"message":"oops"}'],
      [chatDialect, 'event: error\ndata: {"message":"oops"}\n\n', '{"message":"oops"}'],
      [chatDialect, 'data:{"error":"oops","error_type":"generation"}\n\n', '"oops"'],
      [chatDialect, 'event: error\ndata: {"type":"overloaded"}\n\n', '{"type":"overloaded"}'],
      [messagesDialect, 'event: error\ndata: {"type":"error","error":{"type":"x"}}\n\n', '{"type":"x"}'],
      [responsesDialect, 'data: {"type":"error","code":"x"}\n\n', '{"type":"error","code":"x"}'],
      [responsesDialect, 'data: {"type":"response.failed","response":{"error":{"code":"x"}}}\n\n', '{"code":"x"}'],
    ]
    for (const [dialect, stream, error] of errors) {
      assert.equal(passThrough(Buffer.from(stream), { dialect }).tap.error(), error)
    }
    const fine = 'data: {"error":null,"choices":[{"text":"\\"error\\": event: error"}]}\n\n'
    assert.equal(passThrough(Buffer.from(fine), {}).tap.error(), null)
  })

  test('what the model wrote is put together from text, reasoning and tool calls, in each dialect', () => {
    const chat = [
      { delta: { role: 'assistant', content: '' } },
      { delta: { reasoning: 'Hm. ', reasoning_content: 'Hm. ' } },
      { delta: { content: 'Hé ' } },
      { delta: { tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'look', arguments: '{"a"' } }] } },
      { text: 'plain' },
    ].map((choice) => ({ choices: [choice] }))
    const messages = [
      { type: 'content_block_start', content_block: { type: 'tool_use', id: 'x', name: 'look', input: {} } },
      { type: 'content_block_delta', delta: { type: 'input_json_delta', partial_json: '{"a":1}' } },
      { type: 'content_block_delta', delta: { type: 'thinking_delta', thinking: 'Hm. ' } },
      { type: 'content_block_delta', delta: { type: 'text_delta', text: 'Hé' } },
      { type: 'message_delta', delta: { stop_reason: 'end_turn' } },
    ]
    const responses = [
      { type: 'response.output_item.added', item: { type: 'function_call', name: 'look' } },
      { type: 'response.function_call_arguments.delta', delta: '{}' },
      { type: 'response.output_text.delta', delta: 'Hé' },
      { type: 'response.output_text.done', text: 'Hé' },
      { type: 'response.completed', response: { output: [{ content: [{ text: 'Hé' }] }] } },
    ]
    const written = (dialect: Dialect, events: object[]) => {
      const stream = events.map((one) => `data: ${JSON.stringify(one)}\n\n`).join('')
      return passThrough(Buffer.from(`: ping\n\n${stream}data: no json\n\n`), { dialect }).tap.producedText()
    }
    assert.equal(written(chatDialect, chat), 'Hm. Hé look{"a"plain')
    assert.equal(written(messagesDialect, messages), 'look{"a":1}Hm. Hé')
    assert.equal(written(responsesDialect, responses), 'look{}Hé')
  })
})

describe('bounds', () => {
  test('a frame larger than allowed is an error, however small its chunks', () => {
    const tap = tapOf({ frameBytesMax: 1_000 })
    tap.push(Buffer.from('data: {"choices":[]}\n\ndata: '))
    for (let sent = 0; sent < 900; sent += 100) assert.equal(tap.push(Buffer.alloc(100, 'a')).send, null)
    assert.throws(() => tap.push(Buffer.alloc(100, 'a')), EventFrameTooLarge)
  })

  test('a long frame is moved and read a few times in all, not once for each of its pieces', (t) => {
    const frame = Buffer.from(wordFrame('A'.repeat(4_000_000)))
    const pieces = Array.from({ length: Math.ceil(frame.length / 1_000) }, (_, index) =>
      frame.subarray(index * 1_000, (index + 1) * 1_000),
    )
    let handled = 0
    const count = (bytes: number) => {
      handled += bytes
    }
    const { set } = Uint8Array.prototype
    const { concat } = Buffer
    const { toString: decode } = Buffer.prototype
    t.mock.method(Uint8Array.prototype, 'set', function (this: Uint8Array, bytes: Uint8Array, at?: number) {
      count(bytes.length)
      set.call(this, bytes, at)
    })
    t.mock.method(Buffer, 'concat', (list: readonly Uint8Array[]) => {
      count(list.reduce((sum, { length }) => sum + length, 0))
      return concat(list)
    })
    t.mock.method(Buffer.prototype, 'toString', function (this: Buffer, ...rest: Parameters<typeof decode>) {
      const text = decode.apply(this, rest)
      count(text.length)
      return text
    })
    const tap = tapOf({})
    const sent = pieces.flatMap((piece) => tap.push(piece).send ?? [])
    t.mock.restoreAll()
    assert.equal(Buffer.concat(sent).toString(), frame.toString().replace('"up"', '"lab/model"'))
    assert.ok(handled > frame.length && handled < 10 * frame.length, `${handled} bytes`)
  })

  test('a frame in small pieces takes memory by its length, not by its pieces', () => {
    const before = memoryInUse()
    const tap = tapOf({})
    tap.push(Buffer.from('data: '))
    for (let sent = 0; sent < 300_000; sent++) tap.push(Buffer.from('A'))
    const held = memoryInUse() - before
    assert.equal(tap.complete, false)
    // A buffer for each piece would take 30 MB.
    assert.ok(held < 10_000_000, `${held} bytes`)
  })

  test('text too long to keep is handed on, none of it lost or doubled', () => {
    const taken: string[] = []
    const tap = tapOf({ takeText: (text) => taken.push(text) })
    const words = Array.from({ length: 30_000 }, (_, index) => `w${index} `)
    for (let from = 0; from < words.length; from += 7) {
      const frames = words.slice(from, from + 7).map((content) => wordFrame(content))
      tap.push(Buffer.from(frames.join('')))
    }
    const rest = tap.producedText()
    assert.equal([...taken, rest].join(''), words.join(''))
    assert.ok(taken.length >= 2)
    assert.ok(rest.length < 70_000)
  })

  test('memory stays small for a stream that has sent little, and bounded for one that never ends', () => {
    assert.ok(bytesPerStream({ frames: 10, streams: 300 }) < 8_000)
    assert.ok(bytesPerStream({ frames: 10_000, streams: 20 }) < 120_000)
  })
})

function wordFrame(content: string): string {
  return `data: ${JSON.stringify({ id: 'chatcmpl-1', model: 'up', choices: [{ index: 0, delta: { content } }] })}\n\n`
}

/** What an open stream holds in memory. */
function bytesPerStream({ frames, streams }: { frames: number; streams: number }): number {
  const before = memoryInUse()
  const taps = Array.from({ length: streams }, () => {
    const tap = tapOf({})
    for (let index = 0; index < frames; index++) tap.push(Buffer.from(wordFrame(`word${index} `)))
    return tap
  })
  const perStream = (memoryInUse() - before) / streams
  assert.equal(taps.length, streams)
  return perStream
}

function memoryInUse(): number {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc')
  // The first may do no more than end a collection that had begun, which keeps what has died since.
  collectGarbage()
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

function fromUpstream(text: FrameText): Buffer {
  return Buffer.from(text.replaceAll('MODEL', '"up/stream-7b"'))
}

function forClient(text: FrameText): string {
  return text.replaceAll('MODEL', '"lab/model"')
}

function tapOf(options: Partial<EventStreamTapOptions>): EventStreamTap {
  return new EventStreamTap({
    dialect: chatDialect,
    model: 'lab/model',
    dropUsageChunk: false,
    takeText: () => {},
    ...options,
  })
}

function passThrough(
  bytes: Buffer,
  { fractions = [0.5], ...options }: Partial<EventStreamTapOptions> & { fractions?: readonly number[] },
): { send: string; final: string; tap: EventStreamTap } {
  const tap = tapOf(options)
  const passed = [...chunked(bytes, fractions).map((chunk) => tap.push(chunk)), tap.end()]
  const all = (part: 'send' | 'final') => Buffer.concat(passed.flatMap((tapped) => tapped[part] ?? [])).toString()
  return { send: all('send'), final: all('final'), tap }
}
