import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGateway } from '../support/gateway.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { until } from '../support/until.ts'

test('a node that is told to stop serves on, unready, until proxies have turned away', async () => {
  const clock = new ManualClock()
  await using gateway = await startGateway({ clock, settings: { TOLLGATE_SHUTDOWN_DELAY_MS: '5000' } })
  let hasStopped = false
  const stopping = gateway[Symbol.asyncDispose]().then(() => {
    hasStopped = true
  })

  await until(async () => (await fetch(`${gateway.management}/health/ready`)).status === 503)
  clock.advance(4_999)
  assert.equal((await fetch(`${gateway.inference}/health`)).status, 200)

  clock.advance(1)
  await until(() => {
    clock.advance(100)
    return hasStopped
  })
  await stopping
  await assert.rejects(fetch(`${gateway.inference}/health`))
})
