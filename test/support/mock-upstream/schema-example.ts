import { asList, asRecord, asText } from './read-json.ts'

/** A value that fits a simple JSON schema: objects with all their properties, arrays of one item, the first of an enum. */
export function schemaExample(schema: Record<string, unknown>): unknown {
  return exampleOf(schema, asRecord(schema['$defs']))
}

function exampleOf(schema: Record<string, unknown>, definitions: Record<string, unknown>): unknown {
  if ('const' in schema) return schema['const']
  if (Array.isArray(schema['enum'])) return schema['enum'][0]
  const reference = asText(schema['$ref'])
  if (reference !== '') return exampleOf(asRecord(definitions[reference.replace('#/$defs/', '')]), definitions)
  const [alternative] = asList(schema['anyOf'] ?? schema['oneOf'])
  if (alternative !== undefined) return exampleOf(asRecord(alternative), definitions)

  switch (Array.isArray(schema['type']) ? schema['type'][0] : schema['type']) {
    case 'string':
      return 'word'
    case 'integer':
    case 'number':
      return schema['minimum'] ?? 1
    case 'boolean':
      return true
    case 'null':
      return null
    case 'array':
      return [exampleOf(asRecord(schema['items']), definitions)]
    default: {
      const properties = Object.entries(asRecord(schema['properties']))
      return Object.fromEntries(
        properties.map(([name, property]) => [name, exampleOf(asRecord(property), definitions)]),
      )
    }
  }
}
