import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, test } from 'node:test'
import { may, permissions } from '../src/access/permissions.ts'
import { type Setting, settings } from '../src/config.ts'
import { errorCatalogue } from '../src/errors.ts'
import { refusals } from '../src/inference/refusal.ts'

/** What the documents say is what the code has, in both directions. */
const read = (path: string) => readFileSync(resolve(import.meta.dirname, '..', path), 'utf8')

describe('documents', () => {
  test('the settings in the README are the table in config.ts', () => {
    const documented = [...read('README.md').matchAll(/^\| `(TOLLGATE_\w+)` \| (.*?) \| (.*?) \|$/gm)].map(
      ([, variable, fallback, meaning]) => ({ variable, fallback, meaning }),
    )
    const actual = Object.values(settings).map(({ variable, fallback, meaning }: Setting) => ({
      variable,
      fallback: fallback === null ? 'none' : `\`${fallback}\``,
      meaning,
    }))
    assert.deepEqual(documented, actual)
  })

  test('the management errors in docs/errors.md are the catalogue', () => {
    const documented = [...read('docs/errors.md').matchAll(/^\| `([A-Z_]+)` \| (\d+) \|/gm)]
    assert.deepEqual(
      Object.fromEntries(documented.map(([, code, status]) => [code, Number(status)])),
      Object.fromEntries(Object.entries(errorCatalogue).map(([code, { status }]) => [code, status])),
    )
  })

  test('docs/errors.md explains every inference refusal', () => {
    const text = read('docs/errors.md')
    for (const { code } of Object.values(refusals)) assert.ok(text.includes(`\`${code}\``), code)
  })

  test('the table in docs/security.md is the table of permissions', () => {
    const holders = [
      'OPERATOR',
      'WORKSPACE_MANAGE_ALL',
      'owner',
      'admin',
      'member',
      'WORKSPACE_MANAGE_API_KEYS',
      'WORKSPACE_INVOKE',
      'WORKSPACE_EXPORT_METRICS',
    ] as const
    const rows = [...read('docs/security.md').matchAll(/^\| `([a-z-]+:[a-z]+)` \|(.*)\|$/gm)]
    const documented = rows.map(([, permission, cells = '']) => [
      permission,
      ...cells.split('|').map((cell) => cell.trim() === 'yes'),
    ])
    const actual = permissions.map((permission) => [
      permission,
      ...holders.map((holder) => may({ holder, teamId: null }, permission)),
      holders.some((holder) => holder !== 'OPERATOR' && may({ holder, teamId: 'a team' }, permission)),
    ])
    assert.deepEqual(documented, actual)
  })

  test('the proofs that docs/proofs.md names exist', () => {
    for (const [, path] of read('docs/proofs.md').matchAll(/`(test\/[\w./-]+)`/g)) read(String(path))
  })

  test('every kubectl command in docs/operations.md says which namespace it is about, or what makes it', () => {
    const commands = [...read('docs/operations.md').matchAll(/kubectl [^`#\n]*/g)].map(([command]) => command)
    assert.ok(commands.length > 5)
    const fitting = /^kubectl (--namespace tollgate |create namespace tollgate|apply --kustomize deploy\/kubernetes)/
    assert.deepEqual(
      commands.filter((command) => !fitting.test(command)),
      [],
    )
  })

  test('the links of the README lead to files', () => {
    for (const [, target] of read('README.md').matchAll(/\]\((?!https?:)([^)#]+)\)/g)) read(String(target))
  })
})
