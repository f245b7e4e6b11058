import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import type { ApiDocument, Schema } from '../support/answer-schemas.ts'
import { type Management, operations, startManagement } from '../support/management-client.ts'

/** Values that the shapes file lists and contract §6 does not offer. */
const notOffered = new Set(['BASETEN_MODEL_API'])

describe('the OpenAPI document', () => {
  let management: Management
  let ours: ApiDocument
  let shapes: ApiDocument

  before(async () => {
    management = await startManagement()
    ours = management.schemas.document
    shapes = JSON.parse(await readFile(new URL('../data/management-shapes.openapi.json', import.meta.url), 'utf8'))
  })
  after(() => management[Symbol.asyncDispose]())

  test('is version 3.1, and every reference in it leads somewhere', () => {
    assert.match(ours.openapi, /^3\.1\./)
    const references = [...JSON.stringify(ours).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)]
    assert.ok(references.length > 50)
    for (const [, name = ''] of references) assert.ok(ours.components.schemas[name], name)
  })

  test('has every route of the shapes file, with shapes that fit', () => {
    for (const [path, methods] of Object.entries(shapes.paths)) {
      for (const [method, theirs] of Object.entries(methods)) {
        if (method === 'parameters') continue
        const name = `${method.toUpperCase()} ${path}`
        const operation = ours.paths[path]?.[method]
        assert.ok(operation, name)
        assertFits(json(operation.responses['200']), json(theirs.responses['200']), `${name} response`)
        if (theirs.requestBody !== undefined) {
          assertFits(json(operation.requestBody), json(theirs.requestBody), `${name} body`)
        }
      }
    }
  })

  test('has the components of the shapes file that it uses under the same names', () => {
    const used = new Set<string>()
    for (const methods of Object.values(shapes.paths)) collectNames(methods, shapes, used)
    const missing = [...used].filter((name) => ours.components.schemas[name] === undefined)
    assert.deepEqual(missing, [])
  })

  test('lists for every route the errors that it may answer with, in the one shape', () => {
    for (const { method, path } of operations(management)) {
      const name = `${method} ${path}`
      const operation = ours.paths[path]?.[method.toLowerCase()]
      const statuses = Object.keys(operation?.responses ?? {})
      const expected = ['200', '400', '401', '403', '429', '500', ...(path.includes('{') ? ['404'] : [])]
      for (const status of expected) assert.ok(statuses.includes(status), `${name}: ${status}`)
      for (const status of statuses.filter((candidate) => candidate !== '200')) {
        assert.deepEqual(json(operation?.responses[status]), { $ref: '#/components/schemas/ErrorV1' }, name)
      }
      assert.ok(operation?.summary, name)
    }
  })

  test('names every path parameter, as required', () => {
    for (const { method, path } of operations(management)) {
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      const parameters = ours.paths[path]?.[method.toLowerCase()]?.parameters ?? []
      const required = parameters.filter((parameter) => parameter.in === 'path' && parameter.required)
      assert.deepEqual(
        required.map((parameter) => parameter.name),
        names,
        `${method} ${path}`,
      )
    }
  })

  test('declares an Idempotency-Key for every POST but the one that does not know it', () => {
    const posts = operations(management).filter(({ method }) => method === 'POST')
    const takesNone = posts.filter(({ path }) => header(path, 'idempotency-key') === undefined)
    assert.deepEqual(
      takesNone.map(({ path }) => path),
      ['/v1/gateway/webhooks/{webhook_id}/test'],
    )
    assert.equal(header('/v1/secrets', 'idempotency-key')?.required, false)
    assert.equal(ours.paths['/v1/gateway/webhooks/{webhook_id}/test']?.['post']?.responses['409'], undefined)
  })

  test('declares the signature of a registered key as a header that has to be there', () => {
    const path = '/v1/gateway/groups/{group_id}/api_keys/register'
    const { required, schema } = header(path, 'x-baseten-signature') ?? {}
    assert.deepEqual([required, schema?.type], [true, 'string'])
    assert.ok(header(path, 'idempotency-key'))
  })

  test('names a security scheme by which generated clients send what is accepted', async () => {
    const { name = '', scheme } = securityOf('/v1/models')
    assert.deepEqual([name, scheme?.type, scheme?.scheme], ['key', 'http', 'bearer'])
    const { key } = await management.lab()
    const { status } = await fetch(`${management.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })
    assert.equal(status, 200)
  })

  function header(path: string, name: string) {
    return ours.paths[path]?.['post']?.parameters?.find(
      (parameter) => parameter.in === 'header' && parameter.name === name,
    )
  }

  function securityOf(path: string) {
    const [name] = Object.keys(ours.paths[path]?.['get']?.security?.[0] ?? {})
    return { name, scheme: name === undefined ? undefined : ours.components.securitySchemes[name] }
  }

  /** Fails unless `mine` has every property, type, enum value and required field of `theirs`. */
  function assertFits(mineGiven: Schema | undefined, theirsGiven: Schema | undefined, where: string): void {
    const mine = resolve(mineGiven, ours)
    const theirs = resolve(theirsGiven, shapes)
    const wanted = alternatives(theirs, shapes)
    if (wanted.length > 1) {
      for (const option of wanted) {
        const match = alternatives(mine, ours).find(({ type }) => type === option.type)
        assert.ok(match, `${where}: may not be ${option.type}`)
        assertFits(match, option, where)
      }
      return
    }
    assert.equal(mine.type, theirs.type, `${where}: type`)
    if (theirs.format !== undefined) assert.equal(mine.format, theirs.format, `${where}: format`)
    for (const value of theirs.enum ?? []) {
      if (!notOffered.has(String(value))) assert.ok(mine.enum?.includes(value), `${where}: ${value}`)
    }
    for (const field of theirs.required ?? []) assert.ok(mine.required?.includes(field), `${where}.${field}: required`)
    for (const [field, schema] of Object.entries(theirs.properties ?? {})) {
      assert.ok(mine.properties?.[field], `${where}.${field}`)
      assertFits(mine.properties[field], schema, `${where}.${field}`)
    }
    if (where.includes(' body')) assert.deepEqual(mine.required ?? [], theirs.required ?? [], `${where}: required`)
    if (theirs.items !== undefined) assertFits(mine.items, theirs.items, `${where}[]`)
  }
})

function json(carrier: { content: Record<string, { schema: Schema }> } | undefined): Schema | undefined {
  return carrier?.content['application/json']?.schema
}

function resolve(schema: Schema | undefined, document: ApiDocument): Schema {
  if (schema?.$ref === undefined) return schema ?? {}
  return resolve(document.components.schemas[schema.$ref.replace('#/components/schemas/', '')], document)
}

/** What a schema allows, one type at a time: `anyOf` and a list of types say the same. */
function alternatives(schema: Schema, document: ApiDocument): Schema[] {
  if (schema.anyOf !== undefined) return schema.anyOf.map((option) => resolve(option, document))
  return Array.isArray(schema.type) ? schema.type.map((type) => ({ ...schema, type })) : [schema]
}

function collectNames(part: unknown, document: ApiDocument, into: Set<string>): void {
  for (const [, name = ''] of JSON.stringify(part).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    if (into.has(name)) continue
    into.add(name)
    collectNames(document.components.schemas[name], document, into)
  }
}
