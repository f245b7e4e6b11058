import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import fc from 'fast-check'
import { countTokens as countWhole, encode } from 'gpt-tokenizer/encoding/o200k_base'
import { systemClock } from '../../src/clock.ts'
import { textSample } from '../../src/inference/text-sample.ts'
import { countTokens, TokenCounter } from '../../src/inference/token-count.ts'
import { pieces } from '../../src/inference/token-pieces.ts'

const prose = 'The quick brown fox, 42 years old, jumps over the lazy dog.\n\nDoes it? Of course it does!  '

test('tokens are counted as o200k_base has them', async () => {
  assert.equal(await countTokens('hello world'), 2)
  assert.equal(await countTokens(prose), encode(prose).length)
  assert.equal(await countTokens(''), 0)
})

test('what spells a special token is counted as the text it is', async () => {
  assert.ok((await countTokens('<|endoftext|>')) > 1)
  assert.equal(await countTokens('<|im_start|>'), countWhole('<|im_start|>', { disallowedSpecial: new Set() }))
})

test('a long text has the tokens of the whole within one in a thousand', async () => {
  const text = prose.repeat(1_000)
  const whole = countWhole(text)
  assert.ok(Math.abs((await countTokens(text)) - whole) <= whole / 1_000)
})

test('runs without spaces, which take time in their square, are counted in pieces', async () => {
  const startedMs = systemClock.monotonic()
  for (const run of ['a', '漢字', ' ', '\n', '😀', '=-']) assert.ok((await countTokens(run.repeat(50_000))) > 0)
  // In one piece the second of them alone takes half a minute.
  assert.ok(systemClock.monotonic() - startedMs < 10_000)
})

test('the event loop turns while long texts are counted', async () => {
  await countTokens('the thread is there')
  let turns = 0
  let counted = false
  const counting = Promise.all(Array.from({ length: 3 }, () => countTokens(prose.repeat(20_000)))).then(() => {
    counted = true
  })
  while (!counted) {
    turns++
    await new Promise((resolve) => setImmediate(resolve))
  }
  await counting
  // Were they counted here, they would be before the first turn.
  assert.ok(turns > 1)
})

test('counts asked for at once come back to who asked', async () => {
  const texts = Array.from({ length: 50 }, (_, index) => 'word '.repeat(index))
  assert.deepEqual(
    await Promise.all(texts.map((text) => countTokens(text))),
    texts.map((text) => countWhole(text)),
  )
})

test('of a text of any length the thread gets 64 KiB, from its beginning, middle and end, and the whole is counted by them', async () => {
  const thread = new RecordingThread()
  const counter = new TokenCounter({ startThread: () => thread })
  for (const unit of ['one two ', '漢字', '😀', 'é'] as const) {
    const text = unit.repeat(500_000)
    const counting = counter.count(text)
    const { sample = '', answer } = thread.last()
    assert.ok(Buffer.byteLength(sample) <= 64 * 1024 + 10, `${Buffer.byteLength(sample)} bytes`)
    assert.ok(Buffer.byteLength(sample) > 63 * 1024)
    answer(1_000)
    assert.equal(await counting, Math.round((1_000 * Buffer.byteLength(text)) / Buffer.byteLength(sample)))
  }
  const parts = ['begin ', 'middle ', 'end '].map((word) => word.repeat(100_000))
  const { sample } = textSample(parts.join(''))
  for (const part of [/^begin /, /middle middle/, / end $/]) assert.match(sample, part)
})

test('where much waits for the thread, the plain estimate comes without it', async () => {
  const thread = new RecordingThread()
  const counter = new TokenCounter({ startThread: () => thread, waitingBytesMax: 1_000 })
  const waiting = counter.count('a'.repeat(900))
  assert.equal(await counter.count('漢'.repeat(100)), 75)
  assert.equal(thread.asked.length, 1)
  const fits = counter.count('b'.repeat(100))
  assert.equal(thread.asked.length, 2)
  thread.asked[0]?.answer(17)
  assert.equal(await waiting, 17)
  const next = counter.count('c'.repeat(900))
  thread.asked[1]?.answer(18)
  thread.asked[2]?.answer(19)
  assert.deepEqual(await Promise.all([fits, next]), [18, 19])
})

test('a thread that ends leaves those who waited the plain estimate, and the next text has another thread', async () => {
  const threads: RecordingThread[] = []
  const startThread = () => {
    const thread = new RecordingThread()
    threads.push(thread)
    return thread
  }
  const counter = new TokenCounter({ startThread, waitingBytesMax: 100 })
  const left = [counter.count('a'.repeat(40)), counter.count('b'.repeat(60))]
  threads[0]?.emit('error', new Error('out of memory'))
  threads[0]?.emit('exit', 1)
  assert.deepEqual(await Promise.all(left), [10, 15])
  const counting = counter.count('c'.repeat(100))
  threads[1]?.last().answer(7)
  assert.equal(await counting, 7)
})

test('where no thread can be started the plain estimate is the answer', async () => {
  const counter = new TokenCounter({
    startThread: () => {
      throw new Error('no more threads')
    },
    waitingBytesMax: 40,
  })
  for (let text = 0; text < 3; text++) assert.equal(await counter.count('a'.repeat(40)), 10)
})

/** A thread that answers when the test says so. */
class RecordingThread extends EventEmitter {
  readonly asked: { sample: string; answer: (tokens: number) => void }[] = []

  postMessage(sample: string): void {
    this.asked.push({ sample, answer: (tokens) => this.emit('message', tokens) })
  }

  last(): RecordingThread['asked'][number] {
    const last = this.asked.at(-1)
    assert.ok(last !== undefined)
    return last
  }

  ref(): void {}
  unref(): void {}
}

test('the pieces of a text are the text, none of them with a long run', () => {
  const run = fc.string({ unit: 'binary', maxLength: 400 })
  const text = fc.array(fc.oneof(run, fc.constantFrom(' ', '\n\n', ' '.repeat(300), 'x'.repeat(300))), {
    maxLength: 20,
  })
  fc.assert(
    fc.property(text, (parts) => {
      const whole = parts.join(' ')
      assert.equal(pieces(whole).join(''), whole)
      for (const piece of pieces(whole)) assert.doesNotMatch(piece, /\S{129}|\s{129}/u)
    }),
  )
})
