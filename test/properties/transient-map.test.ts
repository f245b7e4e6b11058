import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TransientMap } from '../../src/transient-map.ts'

/** Entries that come, and how many of the oldest then go: enough of them that the map moves to a new one, and again. */
const anyStep = fc.record({ come: fc.nat(2_000), go: fc.nat(2_000) })

test('entries that come and go are those of a Map, in its order', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 8 }), (steps) => {
      const map = new TransientMap<number, string>()
      const model = new Map<number, string>()
      let lastKey = 0
      for (const { come, go } of steps) {
        for (let index = 0; index < come; index++) {
          lastKey += 1
          map.set(lastKey, `value ${lastKey}`)
          model.set(lastKey, `value ${lastKey}`)
        }
        for (const key of [...model.keys()].slice(0, go)) assert.equal(map.delete(key), model.delete(key))
        assert.equal(map.delete(0), false)
        assert.equal(map.get(lastKey), model.get(lastKey))
        assert.deepEqual([...map], [...model])
        assert.deepEqual([...map.values()], [...model.values()])
      }
    }),
    { numRuns: 30 },
  )
})

test('entries may be deleted while one goes over them', () => {
  const map = new TransientMap<number, string>()
  for (const key of [1, 2, 3]) map.set(key, `value ${key}`)
  const seen: number[] = []
  for (const [key] of map) {
    seen.push(key)
    map.delete(key)
  }
  assert.deepEqual(seen, [1, 2, 3])
  assert.deepEqual([...map], [])
})
