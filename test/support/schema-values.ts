import fc from 'fast-check'
import type { ApiDocument, Schema } from './answer-schemas.ts'

/** Stands in generated values for the id of something that exists when they are sent; `withIds` puts that there. */
export function anIdOf(kind: string): fc.Arbitrary<string> {
  return fc.nat(9_999).map((number) => `id#${number}#${kind}`)
}

/** The text with each placeholder replaced by an id of its kind, or of any where there is none. */
export function withIds(text: string, idsByKind: ReadonlyMap<string, readonly string[]>): string {
  return text.replaceAll(/id#(\d+)#(\w+)/g, (_, number: string, kind: string) => {
    const ids = idsByKind.get(kind) ?? [...idsByKind.values()].flat()
    return ids[Number(number) % ids.length] ?? 'none'
  })
}

const here = 'http://127.0.0.1:9/v1'
const aModel = fc.record({ provider: fc.constant('SELF_HOSTED'), model_id: anIdOf('model_id') })
const hosted = { provider: 'OPENAI_COMPATIBLE', base_url: here, target_model: 'm' }

/** Values that the schema of a field does not lead to by itself. Nothing else than port 9 of this machine is ever called. */
const likely: Record<string, fc.Arbitrary<unknown>> = {
  slug: fc.constantFrom('org-1/a', 'org-1/b', 'org-1/c', 'org-1/d', 'org-2/a', 'a', '../a'),
  email: fc.constantFrom('ada@example.com', 'bob@example.com', 'eve@example.com', 'no address'),
  url: fc.constantFrom('http://127.0.0.1:9/a', 'http://127.0.0.1:9/b', 'http://169.254.169.254/', 'http://a.example/'),
  base_url: fc.constantFrom(here, here, here, here, 'http://169.254.169.254/', 'http://a:b@127.0.0.1:9/', 'ftp://a'),
  name: fc.constantFrom('production', 'staging', 'a', 'b', 'c-1', 'Ünïcode', ''),
  environments: fc.constantFrom([{ name: 'production', base_url: here }], ['production'], ['staging']),
  targets: fc.array(fc.oneof(aModel, fc.constant(hosted)), { minLength: 1, maxLength: 5 }),
  external_entity_id: fc.constantFrom('customer-1', 'customer-2', 'customer-3', 'customer-4', ''),
  hierarchy: fc.constant({}),
  hostname: fc.constantFrom('a.example.com', 'b.example.com', 'localhost', 'no host'),
  status: fc.constantFrom('dead', 'pending', 'open'),
  start_time: fc.constantFrom('2020-01-01T00:00:00Z', '2020-02-30T00:00:00Z', 'yesterday'),
}

/** Values that the schema allows, most of the time; a field of a known name mostly has one that means something. */
export function valuesOf(given: Schema, document: ApiDocument, field = ''): fc.Arbitrary<unknown> {
  const meant = likely[field]
  const allowed = allowedBy(resolve(given, document), document, field)
  return meant === undefined ? allowed : fc.oneof({ weight: 3, arbitrary: meant }, allowed)
}

/** A value with one thing wrong: another type, a field too many, one missing, or something outlandish. */
export function spoilt(values: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.tuple(values, fc.nat(), outlandish).map(([value, place, odd]) => {
    const copy: unknown = structuredClone(value)
    const spots = spotsOf(copy)
    const spot = spots[place % Math.max(1, spots.length)]
    if (spot === undefined) return odd
    const [holder, key] = spot
    if (place % 3 === 0) Reflect.deleteProperty(holder, key)
    else Reflect.set(holder, place % 3 === 1 ? key : 'no_such_field', odd)
    return copy
  })
}

/** What programs send by mistake, and people on purpose. */
export const outlandish: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, true, -1, 0.5, 1e308, '', ' ', '\u0000', '😀\ud800', 'x'.repeat(3_000), [], {}, [
    [[]],
  ]),
  fc.constantFrom<unknown>("'; drop table groups; --", '../../etc/passwd', '%00', 'constructor', '__proto__'),
  fc.constant(JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}')),
  fc.string({ unit: 'binary' }),
  anIdOf('any'),
)

function allowedBy(schema: Schema, document: ApiDocument, field: string): fc.Arbitrary<unknown> {
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map((option) => valuesOf(option, document, field)))
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (Array.isArray(schema.type)) {
    return fc.oneof(...schema.type.map((type) => allowedBy({ ...schema, type }, document, field)))
  }
  switch (schema.type) {
    case 'object':
      return objectsOf(schema, document)
    case 'array':
      return fc.array(valuesOf(schema.items ?? {}, document, field), { minLength: schema.minItems ?? 0, maxLength: 3 })
    case 'integer':
    case 'number':
      return fc.oneof(fc.nat(200), fc.integer({ min: schema.minimum ?? 0, max: schema.maximum ?? 2 ** 40 }))
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    default:
      return stringsOf(schema, field)
  }
}

/** Few optional fields go together, so most values have one or two of them, or none. */
function objectsOf({ properties = {}, required = [] }: Schema, document: ApiDocument): fc.Arbitrary<unknown> {
  const fields = Object.entries(properties).map(([name, schema]) => [name, valuesOf(schema, document, name)] as const)
  const optional = Object.keys(properties).filter((name) => !required.includes(name))
  return fc
    .tuple(fc.record(Object.fromEntries(fields)), fc.subarray(optional), fc.nat(3))
    .map(([value, chosen, chosenMax]) => {
      const kept = [...required, ...chosen.slice(0, chosenMax)]
      return Object.fromEntries(Object.entries(value).filter(([name]) => kept.includes(name)))
    })
}

function stringsOf({ pattern, minLength = 0 }: Schema, field: string): fc.Arbitrary<string> {
  const [, kind] = /(\w+_id)s?$/.exec(field) ?? []
  if (kind !== undefined) return anIdOf(kind.replace(/^parent_/, ''))
  // Look-ahead cannot be generated from.
  if (pattern !== undefined && !pattern.includes('(?!')) return fc.stringMatching(new RegExp(pattern), { size: '-1' })
  return fc.oneof(fc.string({ minLength, maxLength: 20 }), fc.constantFrom('a', 'b', 'production'))
}

function resolve(schema: Schema, document: ApiDocument): Schema {
  if (schema.$ref === undefined) return schema
  return resolve(document.components.schemas[schema.$ref.replace('#/components/schemas/', '')] ?? {}, document)
}

/** Every place within a value, as what holds it and under which key. */
function spotsOf(value: unknown): [object, string][] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, inner]): [object, string][] => [[value, key], ...spotsOf(inner)])
}
