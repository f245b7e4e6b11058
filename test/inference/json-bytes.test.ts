import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { JsonText } from '../../src/inference/json-text.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const root = resolve(import.meta.dirname, '../..')
/** So much of a text is in the module's memory at a time. */
const shownBytes = 64 * 1024

describe('the module that reads JSON in its own memory', () => {
  test('is what its source compiles to', async () => {
    using folder = temporaryFolder()
    const compiled = join(folder.path, 'json-bytes.wasm')
    const settings = ['--config', 'assembly/asconfig.json', '--outFile', compiled]
    await promisify(execFile)('node_modules/.bin/asc', settings, { cwd: root })
    assert.deepEqual(await readFile(join(root, 'src/inference/json-bytes.wasm')), await readFile(compiled))
  })

  test('finds the end of a string wherever it is cut on its way into the memory', () => {
    const ends = ['"', '\\n"', '\\""', '\\u00eF"', '\\\\"', '\\\\\\""', 'é"']
    const breaks = ['\\x"', '\\u00g0"', '\n"', '\0"', '\\', '\\u00', '']
    for (const length of lengthsAround(shownBytes)) {
      const begun = `"${'x'.repeat(length)}`
      for (const end of ends) {
        const text = Buffer.from(`${begun}${end} "behind it"`)
        assert.equal(new JsonText(text).skipString(0), Buffer.byteLength(begun + end), end)
      }
      for (const end of breaks) assert.equal(new JsonText(Buffer.from(begun + end)).skipString(0), -1, end)
    }
  })

  test('finds what is special and what is structure at every place, up to the end', () => {
    for (const length of [...lengthsAround(shownBytes), ...lengthsAround(2 * shownBytes)]) {
      const [plain, loose] = ['x'.repeat(length), '1'.repeat(length)]
      for (const special of ['"', '\\', '\0', '\u001f', '']) {
        assert.equal(new JsonText(Buffer.from(plain + special)).skipPlain(0), length, special)
      }
      for (const mark of ['"', '{', '}', '[', ']', '']) {
        assert.equal(new JsonText(Buffer.from(loose + mark)).skipUnstructured(0), length, mark)
      }
    }
  })

  test('keeps texts apart that are read in turn, and reads one again from an earlier place', () => {
    const texts = ['[1,"one"]', '[1,"another one"]', `[1,"${'long '.repeat(shownBytes)}"]`].map(
      (text) => new JsonText(Buffer.from(text)),
    )
    for (const text of [...texts, ...texts.toReversed()]) {
      assert.equal(text.skipString(3), text.bytes.length - 1)
      assert.equal(text.skipString(3), text.bytes.length - 1)
    }
  })
})

function lengthsAround(bytes: number): number[] {
  return Array.from({ length: 40 }, (_, index) => bytes - 20 + index)
}
