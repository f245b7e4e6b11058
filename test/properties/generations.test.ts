import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Generations } from '../../src/limits/generations.ts'

const lengthMs = 100

const anyStep = fc.record({
  passesMs: fc.oneof(fc.nat(20), fc.nat(150)),
  key: fc.constantFrom('a', 'b', 'c'),
  does: fc.constantFrom('use', 'set', 'peek'),
})

test('a value stays for the generation after the one that used it last, and no longer', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
      const generations = new Generations<{ key: string }>(lengthMs)
      /** Every value that was ever set, with the generation that used it last. */
      const book = new Map<string, { value: { key: string }; generation: number }>()
      let [nowMs, sinceMs, generation] = [0, 0, 0]
      for (const { passesMs, key, does } of steps) {
        nowMs += passesMs
        if (does !== 'peek' && nowMs - sinceMs >= lengthMs) [sinceMs, generation] = [nowMs, generation + 1]
        const stays = [...book.values()].filter((entry) => entry.generation >= generation - 1)
        const known = stays.find(({ value }) => value.key === key)
        if (does === 'set') {
          const value = { key }
          assert.equal(generations.set(key, value, nowMs), value)
          book.set(key, { value, generation })
        } else if (does === 'use') {
          assert.equal(generations.use(key, nowMs), known?.value)
          if (known !== undefined) known.generation = generation
        } else {
          assert.equal(generations.peek(key), known?.value)
          assert.deepEqual(new Set(generations.values()), new Set(stays.map(({ value }) => value)))
        }
      }
    }),
  )
})
