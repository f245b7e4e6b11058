import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { startGateway } from '../support/gateway.ts'
import { startMockUpstream } from '../support/mock-upstream.ts'

/** The get-started guide that the product comes from, call by call, answer by answer. */
test('the get-started guide works as it is written', async () => {
  await using upstream = await startMockUpstream({ script: { text: 'Hello!' } })
  await using gateway = await startGateway()

  const model = await gateway.manage<{ id: string }>('POST', '/v1/models', {
    name: 'your-model',
    environments: [{ name: 'production', base_url: upstream.baseUrl }],
  })
  await gateway.manage('POST', '/v1/gateway/endpoints', {
    slug: 'your-org/your-model',
    targets: [{ provider: 'BASETEN', model_id: model.id }],
  })

  // Step 1: create a group.
  const declared = {
    slug: 'your-org/your-model',
    rate_limits: [
      { type: 'TOKEN', unit: 'MINUTE', threshold: 1_000_000 },
      { type: 'REQUEST', unit: 'MINUTE', threshold: 100 },
    ],
    usage_limits: [{ type: 'TOKEN', unit: 'DAY', threshold: 10_000_000 }],
  }
  const group = await gateway.manage<Record<string, unknown>>('POST', '/v1/gateway/groups', {
    metadata: { name: 'Acme prod', external_entity_id: 'cust_42' },
    models: [declared],
    hierarchy: { limit_enforcement: 'INDEPENDENT', parent_group_id: null },
  })
  const withSource = (limit: object) => ({ ...limit, source_group: group['id'] })
  assert.deepEqual(group, {
    id: group['id'],
    metadata: { name: 'Acme prod', external_entity_id: 'cust_42' },
    models: [declared],
    effective_models: [
      {
        slug: 'your-org/your-model',
        rate_limits: declared.rate_limits.map(withSource),
        usage_limits: declared.usage_limits.map(withSource),
      },
    ],
    hierarchy: { limit_enforcement: 'INDEPENDENT', parent_group_id: null },
    created_at: group['created_at'],
  })
  assert.match(String(group['created_at']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)

  // Step 2: mint an API key for the group.
  const minted = await gateway.manage<{ api_key: string; prefix: string; name: string }>(
    'POST',
    `/v1/gateway/groups/${group['id']}/api_keys`,
    { name: 'prod-key-1' },
  )
  assert.equal(minted.name, 'prod-key-1')
  assert.equal(minted.api_key.split('.')[0], minted.prefix)
  const key = await gateway.manage('GET', `/v1/gateway/groups/${group['id']}/api_keys/${minted.prefix}`)
  assert.equal(key['prefix'], minted.prefix)
  assert.equal(key['name'], 'prod-key-1')
  assert.ok(!JSON.stringify(key).includes(minted.api_key.slice(minted.prefix.length + 1)))

  // Step 3: call the model through the gateway, with the SDK and with curl's header.
  const client = new OpenAI({ baseURL: `${gateway.inference}/v1`, apiKey: minted.api_key })
  const completion = await client.chat.completions.create({
    model: 'your-org/your-model',
    messages: [{ role: 'user', content: 'Hello, world!' }],
  })
  assert.equal(completion.choices[0]?.message.content, 'Hello!')

  const response = await gateway.infer(
    minted.api_key,
    { model: 'your-org/your-model', messages: [{ role: 'user', content: 'Hello, world!' }] },
    { headers: { authorization: `Api-Key ${minted.api_key}` } },
  )
  assert.equal(response.status, 200)
})
