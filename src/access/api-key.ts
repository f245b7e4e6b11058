import { hash, randomBytes } from 'node:crypto'

export interface MintedKey {
  /** The whole key, `prefix.secret`: shown once, stored nowhere. */
  key: string
  prefix: string
  hash: string
}

/** A new key: a public prefix that begins with `prefixStart`, and 32 random bytes (contract §3). */
export function mintKey(prefixStart: string): MintedKey {
  const prefix = prefixStart + randomBytes(6).toString('hex')
  const key = `${prefix}.${randomBytes(32).toString('base64url')}`
  return { key, prefix, hash: keyHash(key) }
}

/** What is stored of a key, and what it is looked up by: SHA-256 of the whole key, in base64. */
export function keyHash(key: string): string {
  return hash('sha256', key, 'base64')
}

/** The public part of a key that somebody else made: all before the first dot, or its first 16 characters. */
export function publicPrefix(key: string): string {
  const dot = key.indexOf('.')
  return dot > 0 ? key.slice(0, dot) : key.slice(0, 16)
}

/** Shannon entropy over the key's own characters, in bits a character (contract §8). */
export function shannonEntropy(key: string): number {
  const counts = new Map<string, number>()
  for (const character of key) counts.set(character, (counts.get(character) ?? 0) + 1)
  const length = [...key].length
  return [...counts.values()].reduce((bits, count) => bits - (count / length) * Math.log2(count / length), 0)
}
