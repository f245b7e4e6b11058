import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { ServingTime } from '../src/listen.ts'
import { ManualClock } from './support/manual-clock.ts'

const address = { host: '127.0.0.1', port: 0, variable: 'TOLLGATE_INFERENCE_LISTEN' }
const draining = { clock: new ManualClock(), timeoutMs: 1_000 }

test('a server that is drained while it is about to listen does not stay open', async () => {
  const server = createServer()
  const serving = new ServingTime(server)
  const listening = serving.listen(address)
  await serving.drain(draining)
  await listening
  assert.equal(server.listening, false)
})

test('a server that was drained listens no more', async () => {
  const server = createServer()
  const serving = new ServingTime(server)
  await serving.drain(draining)
  await assert.rejects(serving.listen(address), /draining/)
  assert.equal(server.listening, false)
})
