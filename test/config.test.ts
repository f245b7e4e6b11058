import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { readConfig, type Setting, settings } from '../src/config.ts'
import { StartError } from '../src/errors.ts'

describe('settings', () => {
  test('an empty environment gives every default', () => {
    const config = readConfig({})
    assert.equal(config.dataDir, './.tollgate')
    assert.deepEqual(config.inferenceListen, { host: '127.0.0.1', port: 8000 })
    assert.equal(config.masterKey, null)
  })

  test('flags win over the environment', () => {
    const config = readConfig({ TOLLGATE_LOG_LEVEL: 'warn' }, { TOLLGATE_LOG_LEVEL: 'debug' })
    assert.equal(config.logLevel, 'debug')
  })

  test('variables of other programs are nobody of ours', () => {
    assert.doesNotThrow(() => readConfig({ PATH: '/bin', TOLL: '1' }))
  })

  const mistakes: [environment: Record<string, string>, sentence: RegExp][] = [
    [{ TOLLGATE_LOGLEVEL: 'info' }, /^TOLLGATE_LOGLEVEL is not a setting/],
    [{ TOLLGATE_LOG_LEVEL: 'loud' }, /^TOLLGATE_LOG_LEVEL must be one of trace, .*; it is 'loud'\.$/],
    [{ TOLLGATE_MASTER_KEY: 'c2hvcnQ=' }, /^TOLLGATE_MASTER_KEY must be 32 bytes in base64; it decodes to 5\.$/],
    [{ TOLLGATE_INFERENCE_LISTEN: '8000' }, /^TOLLGATE_INFERENCE_LISTEN must be host:port/],
    [{ TOLLGATE_INFERENCE_LISTEN: '127.0.0.1:70000' }, /^TOLLGATE_INFERENCE_LISTEN must be host:port/],
    [{ TOLLGATE_BOOTSTRAP_KEY: 'short.key' }, /^TOLLGATE_BOOTSTRAP_KEY must be a prefix/],
    [{ TOLLGATE_OPERATOR_KEY: 'sixteen-characts' }, /^TOLLGATE_OPERATOR_KEY must be a prefix/],
    [
      { TOLLGATE_OPERATOR_KEY: `op.${'x'.repeat(16)}`, TOLLGATE_BOOTSTRAP_KEY: `op.${'x'.repeat(16)}` },
      /^TOLLGATE_OPERATOR_KEY must be another key than TOLLGATE_BOOTSTRAP_KEY, which is a key of a workspace\.$/,
    ],
    [{ TOLLGATE_REQUEST_BODY_BYTES_MAX: '1e6' }, /^TOLLGATE_REQUEST_BODY_BYTES_MAX must be a whole number/],
    [{ TOLLGATE_REDIS_URL: '127.0.0.1:6379' }, /^TOLLGATE_REDIS_URL must be a URL like redis:/],
    [{ TOLLGATE_LIMITS_FALLBACK: 'allow' }, /^TOLLGATE_LIMITS_FALLBACK must be one of local, reject; it is 'allow'\.$/],
    [
      { TOLLGATE_RESERVED_HOSTNAMES: 'a.example.com, b' },
      /^TOLLGATE_RESERVED_HOSTNAMES must be hostnames separated by commas/,
    ],
    [{ TOLLGATE_DATA_DIR: '' }, /^TOLLGATE_DATA_DIR must not be empty\.$/],
  ]
  for (const [environment, sentence] of mistakes) {
    test(`${JSON.stringify(environment)} stops the start with a sentence that names it`, () => {
      assert.throws(
        () => readConfig(environment),
        (error) => error instanceof StartError && sentence.test(error.message),
      )
    })
  }

  test('every default is a value that its own setting takes', () => {
    for (const { variable, fallback, parse } of Object.values(settings) as Setting[]) {
      if (fallback !== null) assert.doesNotThrow(() => parse(fallback), variable)
    }
  })
})
