import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Turn, Turns } from '../../src/delivery/turns.ts'

const bounds = { attemptsMax: 12, workspaceAttemptsMax: 3, webhookAttemptsMax: 2 }

function names(turns: readonly Turn[]): string[] {
  return turns.map(({ webhookId, attemptsMax }) => `${webhookId}: ${attemptsMax}`)
}

function begin(turns: Turns, taken: readonly Turn[]): void {
  for (const { workspaceId, attemptsMax } of taken) {
    for (let attempt = 0; attempt < attemptsMax; attempt += 1) turns.begin(workspaceId)
  }
}

test('workspaces take turns, and no workspace is given more than its part', () => {
  const turns = new Turns(bounds)
  for (const id of ['a1', 'a2', 'a3', 'b1', 'c1']) turns.add(id, id.slice(0, 1))
  const taken = turns.take(9)
  assert.deepEqual(names(taken), ['a1: 2', 'b1: 2', 'c1: 2', 'a2: 1'])
  begin(turns, taken)
  assert.equal(turns.hasNext, false)
  turns.end('a')
  assert.deepEqual(names(turns.take(9)), ['a3: 1'])
})

test('a webhook for which there is no room keeps its place', () => {
  const turns = new Turns(bounds)
  for (const id of ['a1', 'a2', 'a3', 'a4']) turns.add(id, 'a')
  begin(turns, turns.take(9))
  for (const id of ['a1', 'a2', 'a3', 'a4', 'a5']) turns.add(id, 'a')
  assert.deepEqual(turns.take(9), [])
  for (const expected of ['a3', 'a4', 'a1', 'a2', 'a5']) {
    turns.end('a')
    const taken = turns.take(1)
    assert.deepEqual(names(taken), [`${expected}: 1`])
    begin(turns, taken)
  }
})

test('turns that are given back are the next, in their order', () => {
  const turns = new Turns(bounds)
  for (const id of ['a1', 'a2', 'a3', 'b1']) turns.add(id, id.slice(0, 1))
  const taken = turns.take(3)
  turns.add('a1', 'a')
  turns.giveBack(taken)
  assert.deepEqual(names(turns.take(9)).slice(0, 3), ['a1: 2', 'b1: 2', 'a2: 1'])
})

test('whatever hangs, no bound is passed, and who waits is passed over only while there is no room for it', () => {
  const anyStep = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), workspace: fc.nat(5), webhook: fc.nat(4) }),
    fc.record({ kind: fc.constant('take' as const), max: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ kind: fc.constant('end' as const), workspace: fc.nat(5) }),
  )
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 80, size: 'max' }), (steps) => {
      const turns = new Turns(bounds)
      const underWay = new Map<string, number>()
      const waiting = new Map<string, string[]>()
      const inAll = () => [...underWay.values()].reduce((sum, attempts) => sum + attempts, 0)
      const hasRoom = (workspace: string) =>
        inAll() < bounds.attemptsMax && (underWay.get(workspace) ?? 0) < bounds.workspaceAttemptsMax
      for (const step of steps) {
        if (step.kind === 'add') {
          const workspace = `w${step.workspace}`
          const webhook = `${workspace}.${step.webhook}`
          const queue = waiting.get(workspace) ?? []
          if (!queue.includes(webhook)) waiting.set(workspace, [...queue, webhook])
          turns.add(webhook, workspace)
        } else if (step.kind === 'end') {
          const workspace = `w${step.workspace}`
          const attempts = underWay.get(workspace) ?? 0
          if (attempts === 0) continue
          underWay.set(workspace, attempts - 1)
          turns.end(workspace)
        } else {
          const taken = turns.take(step.max)
          begin(turns, taken)
          for (const { webhookId, workspaceId, attemptsMax } of taken) {
            assert.equal(waiting.get(workspaceId)?.shift(), webhookId)
            assert.ok(attemptsMax >= 1 && attemptsMax <= bounds.webhookAttemptsMax)
            underWay.set(workspaceId, (underWay.get(workspaceId) ?? 0) + attemptsMax)
            assert.ok((underWay.get(workspaceId) ?? 0) <= bounds.workspaceAttemptsMax)
          }
          assert.ok(inAll() <= bounds.attemptsMax)
        }
        const someoneFits = [...waiting].some(([workspace, queue]) => queue.length > 0 && hasRoom(workspace))
        assert.equal(turns.hasNext, someoneFits)
      }
    }),
  )
})
