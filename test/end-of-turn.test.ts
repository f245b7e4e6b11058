import assert from 'node:assert/strict'
import { test } from 'node:test'
import { atEndOfTurn } from '../src/end-of-turn.ts'

test('actions run in their order when the turn ends, and not sooner', async () => {
  const log: string[] = []
  atEndOfTurn(() => log.push('first'))
  await Promise.resolve()
  atEndOfTurn(() => log.push('second'))
  process.nextTick(() => log.push('tick'))
  assert.deepEqual(log, [])
  await nextTurn()
  assert.deepEqual(log, ['tick', 'first', 'second'])
})

test('what those ask for who awaited an action belongs to the same turn, after all of them have gone on', async () => {
  const log: string[] = []
  const committed = Promise.withResolvers<void>()
  const answer = async (name: string, hops: number) => {
    await committed.promise
    for (let hop = 0; hop < hops; hop++) await Promise.resolve()
    log.push(`${name} goes on`)
    atEndOfTurn(() => log.push(`${name} is written`))
  }
  void answer('one', 1)
  void answer('two', 9)
  atEndOfTurn(committed.resolve)
  const next = nextTurn().then(() => log.push('next turn'))
  await next
  assert.deepEqual(log, ['one goes on', 'two goes on', 'one is written', 'two is written', 'next turn'])
})

test('what is asked for after the end waits for that of the next turn', async () => {
  const log: string[] = []
  atEndOfTurn(() => log.push('this turn'))
  await nextTurn()
  await nextTurn()
  atEndOfTurn(() => log.push('next turn'))
  await Promise.resolve()
  await new Promise<void>((resolve) => process.nextTick(resolve))
  assert.deepEqual(log, ['this turn'])
  await nextTurn()
  assert.deepEqual(log, ['this turn', 'next turn'])
})

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
