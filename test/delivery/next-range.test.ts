import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nextRange, type RangeEvent } from '../../src/delivery/next-range.ts'

function events(count: number, fields: (index: number) => Partial<RangeEvent> = () => ({})): RangeEvent[] {
  return Array.from({ length: count }, (_, index) => ({
    position: index + 1,
    sequence: index + 1,
    recorded_at: 1_000 + index,
    metadata_bytes: 0,
    ...fields(index),
  }))
}

function lengthOf(found: RangeEvent[]): number {
  return nextRange(found).length
}

test('a delivery takes all events there are, up to 100', () => {
  assert.equal(lengthOf(events(0)), 0)
  assert.equal(lengthOf(events(1)), 1)
  assert.equal(lengthOf(events(100)), 100)
  assert.equal(lengthOf(events(130)), 100)
})

test('a delivery ends before a gap in the sequence', () => {
  assert.equal(lengthOf(events(10, (index) => ({ sequence: index < 4 ? index + 1 : index + 2 }))), 4)
})

test("a delivery ends before its customers' metadata passes 256 KiB, but one event is always taken", () => {
  assert.equal(lengthOf(events(40, () => ({ metadata_bytes: 16 * 1024 }))), 16)
  assert.equal(lengthOf(events(3, () => ({ metadata_bytes: 300 * 1024 }))), 1)
})

test('the events of a delivery were recorded within ten minutes, in whatever order', () => {
  assert.equal(lengthOf(events(10, (index) => ({ recorded_at: index * 120_000 }))), 6)
  assert.equal(lengthOf(events(10, (index) => ({ recorded_at: 10_000_000 - index * 120_000 }))), 6)
})
