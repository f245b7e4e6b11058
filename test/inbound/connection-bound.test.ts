import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { connectionBound, openFilesMax } from '../../src/inbound/connection-bound.ts'

test('clients are as many as the settings allow, where there are files enough', () => {
  assert.equal(connectionBound({ allowed: 10_000, openFilesMax: 1_048_576 }), 10_000)
  assert.equal(connectionBound({ allowed: 10_000, openFilesMax: Number.POSITIVE_INFINITY }), 10_000)
})

test('clients are fewer where each, with its upstream, would leave less than a quarter of the files to the rest', () => {
  assert.equal(connectionBound({ allowed: 10_000, openFilesMax: 1_024 }), 384)
  assert.equal(connectionBound({ allowed: 10_000, openFilesMax: 2 }), 1)
})

test("the operating system's limit of open files is known", () => {
  const limit = execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim()
  assert.equal(openFilesMax(), limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit))
})
