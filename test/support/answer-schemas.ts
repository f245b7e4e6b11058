import assert from 'node:assert/strict'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'

/** What of an OpenAPI document tests look at. */
export interface ApiDocument {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: {
    schemas: Record<string, Schema>
    securitySchemes: Record<string, { type: string; scheme?: string }>
  }
}

export interface Operation {
  summary?: string
  'x-permission'?: string
  security?: Record<string, string[]>[]
  parameters?: { name: string; in: string; required?: boolean; schema: Schema }[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  responses: Record<string, { content: Record<string, { schema: Schema }> }>
}

export interface Schema {
  $ref?: string
  type?: string | string[]
  format?: string
  enum?: unknown[]
  const?: unknown
  pattern?: string
  minLength?: number
  minItems?: number
  maxItems?: number
  minimum?: number
  maximum?: number
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
}

/** Checks answers against the document that the same listener publishes. */
export class AnswerSchemas {
  readonly document: ApiDocument
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true })
  readonly #compiled = new Map<string, ValidateFunction>()

  constructor(document: ApiDocument) {
    this.document = document
    formats.default(this.#ajv)
    this.#ajv.addSchema(document, 'api')
  }

  /** Fails unless the answer is one that the document declares for this method and path. */
  check({ method, path, status, contentType, body }: CheckedAnswer): void {
    const template = this.template(path)
    const operation = template === null ? undefined : this.document.paths[template]?.[method.toLowerCase()]
    if (template === null || operation === undefined) {
      assert.equal(status, 404, `${method} ${path} is not in the document`)
      this.#validate('api#/components/schemas/ErrorV1', body, `${method} ${path}`)
      return
    }
    const name = `${method} ${path}: ${status}`
    const contents = operation.responses[status]?.content
    assert.ok(contents, `${name} is not declared; the body was ${JSON.stringify(body)}`)
    const declared = Object.keys(contents).find((type) => contentType.startsWith(type.split(';')[0] ?? type))
    assert.ok(declared, `${name} has the undeclared content type ${contentType}`)
    const pointer = ['paths', template, method.toLowerCase(), 'responses', status, 'content', declared, 'schema']
    this.#validate(`api#/${pointer.map(escapePointer).join('/')}`, body, name)
  }

  /** The path of the document that a request's path stands for; one without parameters goes before one with. */
  template(path: string): string | null {
    const given = path.split('?')[0] ?? path
    const fitting = Object.keys(this.document.paths).filter((template) =>
      new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(given),
    )
    const parameters = (template: string) => template.split('{').length
    return fitting.sort((one, other) => parameters(one) - parameters(other))[0] ?? null
  }

  #validate(reference: string, body: unknown, name: string): void {
    const validate = this.#compiled.get(reference) ?? this.#ajv.compile({ $ref: reference })
    this.#compiled.set(reference, validate)
    assert.ok(validate(body), `${name} differs from its schema: ${this.#ajv.errorsText(validate.errors)}`)
  }
}

export interface CheckedAnswer {
  method: string
  path: string
  status: number
  contentType: string
  body: unknown
}

function escapePointer(part: string | number): string {
  return encodeURIComponent(String(part).replaceAll('~', '~0').replaceAll('/', '~1'))
}
