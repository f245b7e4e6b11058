import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { chat, defaultSlug, type Gateway, startGateway } from '../support/gateway.ts'
import { type MockUpstream, startMockUpstream } from '../support/mock-upstream.ts'

/** Contract §3: a revocation, and every change, holds at once; also for requests whose head is here and whose body is not. */
describe('a body held back until after a change', () => {
  let upstream: MockUpstream
  let gateway: Gateway

  before(async () => {
    upstream = await startMockUpstream()
    gateway = await startGateway()
    await gateway.publish(defaultSlug, upstream.baseUrl)
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
  })

  /** Sends the head and, once the server waits for the body, holds that back until the returned function is called. */
  async function held(
    method: string,
    url: string,
    key: string,
    body: object,
  ): Promise<() => Promise<number | undefined>> {
    const text = JSON.stringify(body)
    const request = httpRequest(url, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        'content-length': text.length,
        expect: '100-continue',
      },
    })
    request.flushHeaders()
    await once(request, 'continue')
    return async () => {
      const answered = new Promise<IncomingMessage>((resolve) => request.once('response', resolve))
      request.end(text)
      const response = await answered
      response.resume()
      return response.statusCode
    }
  }

  const mint = async (fields: object) => {
    const { api_key } = await gateway.manage<{ api_key: string }>('POST', '/v1/api_keys', fields)
    return api_key
  }
  const prefixOf = (key: string) => key.split('.')[0]

  test('a key that is revoked meanwhile mints no other', async () => {
    const key = await mint({ type: 'WORKSPACE_MANAGE_ALL' })
    const finish = await held('POST', `${gateway.management}/v1/api_keys`, key, { type: 'WORKSPACE_MANAGE_ALL' })
    await gateway.manage('DELETE', `/v1/api_keys/${prefixOf(key)}`)
    assert.equal(await finish(), 401)
  })

  test('a person who is demoted meanwhile does not rise again, one who is removed invites nobody', async () => {
    const users = '/v1/users'
    const { id } = await gateway.manage<{ id: string }>('POST', users, { email: 'eve@example.com', role: 'owner' })
    const key = await mint({ type: 'PERSONAL', user_id: id })
    const rise = await held('PATCH', `${gateway.management}${users}/${id}`, key, { role: 'owner' })
    const invitation = { email: 'mallory@example.com', role: 'member' }
    const invite = await held('POST', gateway.management + users, key, invitation)

    await gateway.manage('PATCH', `${users}/${id}`, { role: 'member' })
    assert.equal(await rise(), 403)
    await gateway.manage('DELETE', `${users}/${id}`)
    assert.equal(await invite(), 401)
  })

  test('a workspace that is no longer onboarded changes nothing of its gateway', async () => {
    const lab = await gateway.manage<{ id: string; api_key: string }>('POST', '/v1/operator/workspaces', {
      name: 'lab',
      org_prefixes: ['lab'],
    })
    const groups = `${gateway.management}/v1/gateway/groups`
    const group = { metadata: { external_entity_id: 'customer' }, models: [{ slug: 'lab/model' }], hierarchy: {} }
    const finish = await held('POST', groups, lab.api_key, group)
    await gateway.manage('PATCH', `/v1/operator/workspaces/${lab.id}`, { onboarded: false })
    assert.equal(await finish(), 403)
  })

  test('a test event is not sent for a key that is revoked meanwhile', async () => {
    const { id } = await gateway.manage<{ id: string }>('POST', '/v1/gateway/webhooks', { url: upstream.baseUrl })
    const key = await mint({ type: 'WORKSPACE_MANAGE_ALL' })
    const finish = await held('POST', `${gateway.management}/v1/gateway/webhooks/${id}/test`, key, {})
    await gateway.manage('DELETE', `/v1/api_keys/${prefixOf(key)}`)
    assert.equal(await finish(), 401)
  })

  test("a customer's key that is revoked meanwhile is not served, and upstream is not called", async () => {
    const { key, prefix, groupId } = await gateway.customer({})
    const finish = await held('POST', `${gateway.inference}/v1/chat/completions`, key, chat())
    await gateway.manage('DELETE', `/v1/gateway/groups/${groupId}/api_keys/${prefix}`)
    const callsBefore = upstream.requests.length
    assert.equal(await finish(), 401)
    assert.equal(upstream.requests.length, callsBefore)
  })

  test('a limit that is lowered meanwhile holds', async () => {
    const { key, groupId } = await gateway.customer({})
    const finish = await held('POST', `${gateway.inference}/v1/chat/completions`, key, chat())
    const limits = [{ type: 'REQUEST', unit: 'MINUTE', threshold: 0 }]
    await gateway.manage('PATCH', `/v1/gateway/groups/${groupId}`, {
      models: [{ slug: defaultSlug, rate_limits: limits }],
    })
    assert.equal(await finish(), 429)
  })
})
