import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFile, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Channel, ChannelError } from '../../src/workers/channel.ts'

test('a call to a process that dies at this moment is rejected, and does nothing else', async () => {
  const child = fork(join(import.meta.dirname, 'silent-process.ts'), { serialization: 'advanced', execArgv: [] })
  const channel = new Channel<{ ask: () => Promise<void> }>(child, {})
  await once(child, 'spawn')
  const ended = once(child, 'exit')
  const asked = new Promise<void>((resolve) => {
    // A callback of a file or a socket: what it sends leaves before the loop reads that the other end is gone.
    readFile(import.meta.filename, () => {
      const call = channel.call('ask')
      child.kill('SIGKILL')
      while (isAlive(Number(child.pid)));
      resolve(call)
    })
  })
  await assert.rejects(asked, ChannelError)
  await ended
})

/** Whether the process is more than an entry in the system's table. */
function isAlive(pid: number): boolean {
  const [, state] = /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
  return state !== 'Z'
}
